"""kopf against a small API server: lists and events reach the mirror, and nothing is ever written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from kubernetes.aio.client import Configuration

from diffusion_operator.kube.decoding import CHUNK
from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS
from diffusion_operator.kube.rest import ClientSettings, RestKubeClient
from diffusion_operator.reconcile.keys import CAPACITY, DeploymentKey, Key
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.streams import SILENT_AFTER_S, Streams
from diffusion_operator.reconcile.wakes import Wakes
from diffusion_operator.watch import UNUSED_FINALIZER, watch
from unit.reconcile.bells import OneBell
from wire.fakeapi import FakeApi, fake_api, kubeconfig

DDS = "/apis/diffusion-operator.io/v1alpha1/diffusiondeployments"
NODES, PODS, SERVICES = "/api/v1/nodes", "/api/v1/pods", "/api/v1/services"
DEPLOYMENTS = "/apis/apps/v1/deployments"
QUOTAS = "/api/v1/resourcequotas"
CLAIMS, VOLUMES = "/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes"
GPU_NODES = "/apis/diffusion-operator.io/v1alpha1/gpunodes"
WATCHED = (
    DDS,
    NODES,
    GPU_NODES,
    PODS,
    QUOTAS,
    SERVICES,
    DEPLOYMENTS,
    "/api/v1/configmaps",
    "/api/v1/serviceaccounts",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/networking.k8s.io/v1/networkpolicies",
    "/apis/apps/v1/replicasets",
    "/apis/batch/v1/jobs",
    CLAIMS,
    VOLUMES,
)
OURS = {"app.kubernetes.io/managed-by": "diffusion-operator", "diffusion-operator.io/deployment": "demo"}
KEY = DeploymentKey("team", "demo")


class Watched:
    """A running watch and the keys it produced."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.keys: asyncio.Queue[Key] = asyncio.Queue()
        self.mirror = Mirror()
        self.mirror.on_change(Wakes(OneBell(self.keys.put_nowait)))
        self.streams = Streams(self.mirror)

    async def next(self) -> Key:
        return await asyncio.wait_for(self.keys.get(), 10)


@asynccontextmanager
async def watching(folder: Path) -> AsyncIterator[Watched]:
    """Not a fixture: at its end kopf cancels all tasks younger than itself, a fixture's teardown too."""
    config = folder / "kubeconfig"
    async with fake_api() as api:
        config.write_text(json.dumps(kubeconfig(api.url)))
        watched, started = Watched(api), asyncio.Event()
        settings = ClientSettings(kubeconfig=str(config))
        task = asyncio.create_task(watch(watched.streams, settings, started=started))
        await asyncio.wait_for(api.wait_for_watches(*WATCHED), 20)
        assert started.is_set()
        yield watched
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "team", **more}}


def holding_a_gpu(name: str, labels: dict[str, str]) -> dict[str, Any]:
    container = {"name": "engine", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    spec = {"nodeName": "node-1", "containers": [container]}
    return named(name, labels=labels) | {"spec": spec, "status": {"phase": "Running"}}


async def test_what_happens_to_our_objects_becomes_their_owners_key(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        watched.api.put(DDS, named("demo"))
        assert await watched.next() == KEY
        for collection in (SERVICES, DEPLOYMENTS, PODS):
            watched.api.put(collection, named(f"child-of-{collection.rsplit('/', 1)[1]}", labels=OURS))
            assert await watched.next() == KEY


async def test_what_frees_gpus_wakes_those_who_wait(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        for labels, keys in ((OURS, [KEY]), ({}, [])):
            pod = watched.api.put(PODS, holding_a_gpu("pod", labels))
            assert [await watched.next() for _ in keys] == keys
            watched.api.tell(PODS, "DELETED", pod)
            assert [await watched.next() for _ in (*keys, CAPACITY)] == [*keys, CAPACITY]
            del watched.api.objects["/api/v1/namespaces/team/pods/pod"]
        dd = watched.api.put(DDS, named("demo"))
        assert await watched.next() == KEY
        watched.api.tell(DDS, "DELETED", dd)
        assert [await watched.next(), await watched.next()] == [KEY, CAPACITY]


async def test_a_node_counts_when_its_gpus_change_and_not_at_a_heartbeat(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:

        def node(gpus: str, beat: str) -> dict[str, Any]:
            return {
                "metadata": {"name": "node-1", "labels": {"nvidia.com/gpu.product": "NVIDIA-H200"}},
                "status": {
                    "allocatable": {"nvidia.com/gpu": gpus, "cpu": "8"},
                    "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": beat}],
                },
            }

        watched.api.put(NODES, node("1", "t1"))
        assert await watched.next() == CAPACITY
        watched.api.put(NODES, node("1", "t2"))
        watched.api.put(DDS, named("demo"))
        assert await watched.next() == KEY
        watched.api.put(NODES, node("2", "t3"))
        assert await watched.next() == CAPACITY


async def test_only_labelled_children_are_asked_for_and_lists_are_chunked(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        lists = {s.path: s.query for s in watched.api.seen if s.path in WATCHED and "watch" not in s.query}
        assert lists[PODS]["fieldSelector"] == "status.phase!=Succeeded,status.phase!=Failed"
        for collection in set(WATCHED) - {DDS, NODES, GPU_NODES, PODS, QUOTAS, CLAIMS, VOLUMES}:
            assert lists[collection]["labelSelector"] == "app.kubernetes.io/managed-by=diffusion-operator"
        assert "labelSelector" not in lists[DDS]
        assert {query["limit"] for query in lists.values()} == {str(CHUNK)}
        watches = [seen.query for seen in watched.api.seen if seen.query.get("watch") == "true"]
        assert {query["timeoutSeconds"] for query in watches} == {"300"}
        assert {query["allowWatchBookmarks"] for query in watches} == {"true"}


async def test_nothing_is_ever_written_not_even_to_objects_with_finalizers(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        foreign = ["kopf.zalando.org/KopfFinalizerMarker", "somebody.example/finalizer"]
        watched.api.put(DDS, named("demo", finalizers=foreign, generation=1))
        assert await watched.next() == KEY
        watched.api.put(PODS, named("demo-1", labels=OURS, finalizers=foreign))
        assert await watched.next() == KEY
        leaving = named("demo", finalizers=foreign, deletionTimestamp="2026-11-24T00:00:00Z")
        watched.api.put(DDS, leaving)
        assert await watched.next() == KEY
        # A later event has been handled, so whatever the earlier ones provoked has been sent.
        watched.api.put(DDS, named("other"))
        assert await watched.next() == DeploymentKey("team", "other")
        assert watched.api.writes() == []
        assert all(UNUSED_FINALIZER not in json.dumps(obj) for obj in watched.api.objects.values())


async def gone(watched: Watched, collection: str) -> None:
    """The stream ends with 410; returns when the collection has been listed and is watched again."""
    stream = watched.api.watching.pop(collection)
    stream.put_nowait({"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}})
    await asyncio.wait_for(watched.api.wait_for_watches(collection), 20)


async def test_a_watch_that_is_gone_is_listed_and_opened_again(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        await gone(watched, DDS)
        watched.api.put(DDS, named("after-the-gap"))
        assert await watched.next() == DeploymentKey("team", "after-the-gap")


async def test_what_was_made_changed_and_deleted_in_a_gap_is_noticed(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        for name in ("stays", "changes", "goes"):
            watched.api.put(DDS, named(name, generation=1))
            assert await watched.next() == DeploymentKey("team", name)
        silent, watched.api.watching = watched.api.watching, {}
        watched.api.put(DDS, named("changes", generation=2))
        watched.api.put(DDS, named("new"))
        del watched.api.objects[f"{DDS.rsplit('/', 1)[0]}/namespaces/team/diffusiondeployments/goes"]
        watched.api.version += 1
        watched.api.watching = silent
        await gone(watched, DDS)
        woken = {await watched.next() for _ in range(4)}
        assert woken == {CAPACITY, *(DeploymentKey("team", name) for name in ("changes", "new", "goes"))}
        assert watched.mirror.get(DIFFUSION_DEPLOYMENTS, "team", "goes") is None


async def test_an_empty_list_after_a_gap_leaves_no_ghost(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        watched.api.put(DDS, named("demo"))
        assert await watched.next() == KEY
        watched.api.objects.clear()
        watched.api.version += 1
        await gone(watched, DDS)
        assert {await watched.next(), await watched.next()} == {KEY, CAPACITY}
        assert not list(watched.mirror.entries(DIFFUSION_DEPLOYMENTS))


async def test_a_stream_that_is_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        watched.api.put(DDS, named("before"))
        assert await watched.next() == DeploymentKey("team", "before")
        lists = sum(1 for seen in watched.api.seen if seen.path == DDS and "watch" not in seen.query)
        watched.api.watching.pop(DDS).put_nowait({"type": "CUT"})
        await asyncio.wait_for(watched.api.wait_for_watches(DDS), 20)
        watched.api.put(DDS, named("after"))
        assert await watched.next() == DeploymentKey("team", "after")
        assert lists == sum(1 for seen in watched.api.seen if seen.path == DDS and "watch" not in seen.query)


ENDS: dict[str, dict[str, Any]] = {
    "an error that is not 410": {"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "oh"}},
    "half a line": {"type": "HALF"},
    "half a line and a reset": {"type": "HALF", "reset": True},
    "410 before the stream": {"type": "STATUS", "code": 410},
    "404 before the stream": {"type": "STATUS", "code": 404},
    "403 before the stream": {"type": "STATUS", "code": 403},
    "500 before the stream": {"type": "STATUS", "code": 500},
}


@pytest.mark.parametrize("end", ENDS)
async def test_however_a_stream_ends_the_watch_goes_on_and_misses_nothing(tmp_path: Path, end: str) -> None:
    """None of these may end the process: the store, a proxy or a role can do each of them at any time."""
    async with watching(tmp_path) as watched:
        watched.api.put(DDS, named("before"))
        assert await watched.next() == DeploymentKey("team", "before")
        watched.api.watching.pop(DDS).put_nowait(ENDS[end])
        watched.api.put(DDS, named("in-the-gap"))
        assert await watched.next() == DeploymentKey("team", "in-the-gap")
        await asyncio.wait_for(watched.api.wait_for_watches(DDS), 20)
        watched.api.put(DDS, named("after"))
        assert await watched.next() == DeploymentKey("team", "after")
        assert watched.streams.refusals() == []


async def test_bookmarks_and_events_prove_a_stream_alive_and_silence_is_mended(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        now = [0.0]
        watched.streams = streams = Streams(watched.mirror, monotonic=lambda: now[0])
        for collection in WATCHED:
            streams.heard(collection)
        now[0] = SILENT_AFTER_S - 1
        for collection in set(WATCHED) - {DDS}:
            streams.heard(collection)
        now[0] = SILENT_AFTER_S + 1
        configuration = Configuration(host=watched.api.url)
        client = RestKubeClient(configuration, ClientSettings())
        watched.api.watching.clear()  # nobody hears of it
        watched.api.put(DDS, named("unheard"))
        await streams.mend(client)
        await client.close()
        assert await watched.next() == DeploymentKey("team", "unheard")
        assert [seen.path for seen in watched.api.seen[-1:]] == [DDS]


async def test_a_bookmark_reaches_the_listener(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        heard: asyncio.Queue[str] = asyncio.Queue()
        watched.streams.heard = heard.put_nowait  # type: ignore[method-assign]
        bookmark = {"kind": "Node", "metadata": {"resourceVersion": "500"}}
        watched.api.tell(NODES, "BOOKMARK", bookmark)
        assert await asyncio.wait_for(heard.get(), 10) == NODES
