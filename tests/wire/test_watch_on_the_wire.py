"""kopf against a small API server: events become keys, and nothing is ever written."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from diffusion_operator.kube.rest import ClientSettings
from diffusion_operator.reconcile.keys import CAPACITY, DeploymentKey, Key
from diffusion_operator.watch import UNUSED_FINALIZER, watch
from wire.fakeapi import FakeApi, fake_api, kubeconfig

DDS = "/apis/diffusion-operator.io/v1alpha1/diffusiondeployments"
NODES, PODS, SERVICES = "/api/v1/nodes", "/api/v1/pods", "/api/v1/services"
DEPLOYMENTS = "/apis/apps/v1/deployments"
WATCHED = (
    DDS,
    NODES,
    PODS,
    SERVICES,
    DEPLOYMENTS,
    "/api/v1/configmaps",
    "/api/v1/serviceaccounts",
    "/apis/policy/v1/poddisruptionbudgets",
    "/apis/networking.k8s.io/v1/networkpolicies",
)
OURS = {"app.kubernetes.io/managed-by": "diffusion-operator", "diffusion-operator.io/deployment": "demo"}
KEY = DeploymentKey("team", "demo")


class Watched:
    """A running watch and the keys it produced."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.keys: asyncio.Queue[Key] = asyncio.Queue()

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
        task = asyncio.create_task(watch(watched.keys.put_nowait, settings, (), started=started))
        await asyncio.wait_for(api.wait_for_watches(*WATCHED), 20)
        assert started.is_set()
        yield watched
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)


def named(name: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "team", **more}}


async def test_what_happens_to_our_objects_becomes_their_owners_key(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        watched.api.put(DDS, named("demo"))
        assert await watched.next() == KEY
        for collection in (SERVICES, DEPLOYMENTS, PODS):
            watched.api.put(collection, named(f"child-of-{collection.rsplit('/', 1)[1]}", labels=OURS))
            assert await watched.next() == KEY


async def test_what_frees_gpus_wakes_those_who_wait(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        pod = watched.api.put(PODS, named("demo-1", labels=OURS))
        assert await watched.next() == KEY
        watched.api.tell(PODS, "DELETED", pod)
        assert [await watched.next(), await watched.next()] == [KEY, CAPACITY]
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
        for collection in set(WATCHED) - {DDS, NODES}:
            assert lists[collection]["labelSelector"] == "app.kubernetes.io/managed-by=diffusion-operator"
        assert "labelSelector" not in lists[DDS]
        assert {query["limit"] for query in lists.values()} == {"500"}
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


async def test_a_watch_that_is_gone_is_listed_and_opened_again(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        await_reopened = watched.api.watching.pop(DDS)
        await_reopened.put_nowait(
            {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old"}}
        )
        await asyncio.wait_for(watched.api.wait_for_watches(DDS), 20)
        watched.api.put(DDS, named("after-the-gap"))
        assert await watched.next() == DeploymentKey("team", "after-the-gap")
