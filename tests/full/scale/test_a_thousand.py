"""A thousand deployments on a thousand KWOK nodes, beside a plain client. Writes docs/results/operator-scale.

Smaller runs: DIFFUSION_SCALE_NODES and DIFFUSION_SCALE_DEPLOYMENTS; the result says how large it was. The
operator runs from this checkout as a process of this machine; its only stub are the engines' reports.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from cluster.watching import EVERYWHERE, await_state
from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.ledger_build import build_ledger
from diffusion_operator.inventory.objects import parse_node
from diffusion_operator.kube.resources import (
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    REQUIRED_ACCESS,
    REQUIRED_OWN_ACCESS,
    JsonObject,
)
from diffusion_operator.kube.rest import RestKubeClient
from diffusion_operator.placement.decide import decide
from diffusion_operator.render.children import render_children
from diffusion_operator.render.settings import RenderSettings
from full.scale.cluster import (
    CONCURRENCY,
    NAMESPACES,
    REPOSITORY,
    Operator,
    Watcher,
    clients,
    each,
    namespace_of,
    namespaces,
    node,
    node_names,
    start_operator,
    wish,
)
from full.scale.control_plane import lighten
from full.scale.page import page
from localcluster.cache import digest
from localcluster.commands import start_cluster, stop_cluster
from localcluster.kindcluster import Cluster
from localcluster.settings import TEST_CLUSTER

RESULT = REPOSITORY / "docs" / "results" / "operator-scale.json"
PAGE = RESULT.with_suffix(".md")
NODES = int(os.environ.get("DIFFUSION_SCALE_NODES", "1000"))
DEPLOYMENTS_AT_ONCE = int(os.environ.get("DIFFUSION_SCALE_DEPLOYMENTS", "1000"))
REPLICAS = int(os.environ.get("DIFFUSION_SCALE_REPLICAS", "5"))
NEW_ONES = 30
REST_SECONDS = 60.0
PORT = 18080
LIMITS = {
    "timesPlainClient": 2.0,
    "applyToReadySeconds": 258.0,
    "newP50Seconds": 0.3,
    "newP99Seconds": 1.0,
    "memoryMiB": 300.0,
    "writesAtRest": 0.0,
    "readsPerSecondAtRest": 5.0,
    "startSeconds": 15.0,
}


def input_hash() -> str:
    """Over the operator's code and this suite."""
    return digest([REPOSITORY / "operator" / "src" / "diffusion_operator", Path(__file__).parent])


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    running = start_cluster(TEST_CLUSTER)
    lighten(running)
    try:
        yield running
    finally:
        if os.environ.get("DIFFUSION_KEEP_CLUSTER") != "1":
            stop_cluster(TEST_CLUSTER)


@pytest.mark.timeout(7200)
async def test_a_thousand_at_once_and_at_rest(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cluster.kubectl("apply", "--server-side", "-f", REPOSITORY / "crds")
    names = (*namespaces("plain"), *namespaces("ours"))
    cluster.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names))
    log = tmp_path / "operator.log"
    configuration, limited, free = await clients(cluster.folder.kubeconfig)
    watcher = Watcher(configuration)
    figures: dict[str, Any] = {}
    started_s = time.monotonic()

    def keep(name: str, found: Any) -> None:
        figures[name] = found
        with capfd.disabled():
            print(f"\n[{time.monotonic() - started_s:5.0f}s] {name}: {found}", flush=True)

    try:
        keep("nodesSeconds", await make_nodes(cluster))
        keep("plain", await plain_client(limited, watcher))
        keep("emptiedSeconds", await empty(cluster, "plain"))
        operator = start_operator(cluster.folder.kubeconfig, PORT, log)
        await until_ready(operator)
        keep("atOnce", await at_once(free, watcher, operator))
        keep("new", await new_ones(free, watcher))
        keep("grown", await grow(free, watcher, operator))
        keep("rest", await at_rest(operator))
        keep("exitCode", operator.stop())
        started, operator = await start_again(cluster, log)
        keep("start", started)
        assert operator.stop() == figures["exitCode"] == 0
    finally:
        await limited.close()
        await free.close()
        print(log.read_text()[-3000:] if log.exists() else "no log")
    write(figures)
    assert broken(figures) == []


async def make_nodes(cluster: Cluster) -> float:
    """Until all are Ready; the seconds that it took."""
    names, started_s = node_names(NODES), time.monotonic()
    for start in range(0, NODES, 200):
        cluster.apply(*(node(name) for name in names[start : start + 200]))
    await_state(
        cluster,
        EVERYWHERE,
        "nodes",
        lambda state: len(state) == NODES and all(map(says_ready, state.values())),
        f"{NODES} nodes that are Ready",
        selector="scale=yes",
        deadline_seconds=600,
    )
    return round(time.monotonic() - started_s, 1)


def children_of(name: str, whose: str) -> list[JsonObject]:
    """What the operator would apply for this name, without the owner."""
    raw = wish(name, whose)
    raw["metadata"] |= {"uid": "none", "generation": 1}
    dd = DiffusionDeployment.parse(raw)
    decision = decide(dd, build_ledger([parse_node(made_ready(node("scale-0000")))], [], []))
    manifests = render_children(dd, decision, RenderSettings(engine_image="localhost/engine:scale"))
    for manifest in manifests:
        del manifest["metadata"]["ownerReferences"]
    return manifests


def says_ready(raw: JsonObject) -> bool:
    conditions = raw.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def made_ready(raw: JsonObject) -> JsonObject:
    raw["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    return raw


async def plain_client(client: RestKubeClient, watcher: Watcher) -> dict[str, float]:
    """The yardstick: the same children, the same workers, the same limits, no operator."""
    wanted = [children_of(f"dd-{number:04}", "plain") for number in range(DEPLOYMENTS_AT_ONCE)]

    async def apply(manifests: list[JsonObject]) -> None:
        for manifest in manifests:
            await client.apply(manifest)

    async with watcher.watching(DEPLOYMENTS, "plain") as seen:
        started_s = time.monotonic()
        await each(wanted, apply, CONCURRENCY)
        applied_s = time.monotonic() - started_s
        await seen.until(lambda found: sum(map(deployment_ready, found.values())) == len(wanted), 1800)
        return {"appliedSeconds": round(applied_s, 1), "readySeconds": round(time.monotonic() - started_s, 1)}


def deployment_ready(deployment: JsonObject) -> bool:
    return bool(deployment.get("status", {}).get("readyReplicas") == deployment["spec"]["replicas"])


def dd_ready(dd: JsonObject) -> bool:
    status = dd.get("status", {})
    return bool(status.get("readyReplicas") == dd["spec"]["replicas"]) and says_ready(dd)


async def at_once(client: RestKubeClient, watcher: Watcher, operator: Operator) -> dict[str, float]:
    wishes = [wish(f"dd-{number:04}", "ours") for number in range(DEPLOYMENTS_AT_ONCE)]

    async def create(raw: JsonObject) -> None:
        await client.create(DIFFUSION_DEPLOYMENTS, raw)

    before, cpu_s, looks = await operator.calls(), operator.cpu_seconds, await operator.reconciles()
    async with watcher.watching(DIFFUSION_DEPLOYMENTS, "ours") as seen:
        started_s = time.monotonic()
        await each(wishes, create, 32)
        created_s = time.monotonic() - started_s
        await seen.until(
            lambda found: sum("plan" in dd.get("status", {}) for dd in found.values()) == len(wishes), 1800
        )
        planned_s = time.monotonic() - started_s
        await seen.until(lambda found: sum(map(dd_ready, found.values())) == len(wishes), 1800)
        ready_s = time.monotonic() - started_s
    after = await operator.calls()
    return {
        "createdSeconds": round(created_s, 1),
        "plannedSeconds": round(planned_s, 1),
        "readySeconds": round(ready_s, 1),
        "operatorCpuSeconds": round(operator.cpu_seconds - cpu_s, 1),
        "readsPerDeployment": round((after["reads"] - before["reads"]) / len(wishes), 2),
        "writesPerDeployment": round((after["writes"] - before["writes"]) / len(wishes), 2),
        "eventsPerDeployment": round((after["events"] - before["events"]) / len(wishes), 2),
        "reconcilesPerDeployment": round((await operator.reconciles() - looks) / len(wishes), 2),
        "memoryMiB": round(operator.memory_mib[0]),
    }


def has(name: str, found: dict[str, JsonObject]) -> bool:
    return name in found


def is_ready(name: str, found: dict[str, JsonObject]) -> bool:
    return name in found and dd_ready(found[name])


async def new_ones(client: RestKubeClient, watcher: Watcher) -> dict[str, float]:
    """From the watch event of a new DiffusionDeployment to the one of its Deployment."""
    seconds = []
    async with (
        watcher.watching(DIFFUSION_DEPLOYMENTS, "ours") as wishes,
        watcher.watching(DEPLOYMENTS, "ours") as deployments,
    ):
        for number in range(NEW_ONES):
            name = f"new-{number:02}"
            await client.create(DIFFUSION_DEPLOYMENTS, wish(name, "ours"))
            (child,) = [m["metadata"]["name"] for m in children_of(name, "ours") if m["kind"] == "Deployment"]
            await deployments.until(partial(has, child), 60)
            await wishes.until(partial(is_ready, name), 120)
            seconds.append(deployments.first_s[child] - wishes.first_s[name])
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {"count": NEW_ONES, "p50Seconds": round(cuts[49], 3), "p99Seconds": round(cuts[98], 3)}


async def grow(client: RestKubeClient, watcher: Watcher, operator: Operator) -> dict[str, float]:
    """Every deployment gets so many replicas."""

    async def scale(name: str) -> None:
        await client._call(
            "PATCH",
            DIFFUSION_DEPLOYMENTS,
            DIFFUSION_DEPLOYMENTS.path(namespace_of("ours", name), name),
            body={"spec": {"replicas": REPLICAS}},
            content_type="application/merge-patch+json",
        )

    names = [f"dd-{number:04}" for number in range(DEPLOYMENTS_AT_ONCE)]
    started_s = time.monotonic()
    async with watcher.watching(DIFFUSION_DEPLOYMENTS, "ours") as seen:
        await each(names, scale, 32)
        await seen.until(
            lambda found: (
                sum(dd["status"].get("readyReplicas") == REPLICAS for dd in found.values() if "status" in dd)
                == len(names)
            ),
            2400,
        )
    return {
        "pods": REPLICAS * len(names) + NEW_ONES,
        "readySeconds": round(time.monotonic() - started_s, 1),
        "memoryMiB": round(operator.memory_mib[0]),
        "highestMemoryMiB": round(operator.memory_mib[1]),
    }


async def at_rest(operator: Operator) -> dict[str, float]:
    """A minute of nothing, once the queue is empty and the last statuses are written."""
    calls = await operator.calls()
    while True:
        await asyncio.sleep(10)
        now = await operator.calls()
        if now["writes"] == calls["writes"] and await operator.queue_depth() == 0:
            break
        calls = now
    before, cpu_s = await operator.calls(), operator.cpu_seconds
    await asyncio.sleep(REST_SECONDS)
    after = await operator.calls()
    return {
        "seconds": REST_SECONDS,
        "writes": after["writes"] - before["writes"],
        "readsPerSecond": round((after["reads"] - before["reads"]) / REST_SECONDS, 2),
        "cpuPercent": round(100 * (operator.cpu_seconds - cpu_s) / REST_SECONDS, 1),
        "memoryMiB": round(operator.memory_mib[0]),
    }


async def until(holds: Callable[[], Awaitable[bool]], limit_s: float) -> None:
    """Ask again and again: these states are seen from outside of the process alone."""
    async with asyncio.timeout(limit_s):
        while not await holds():  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def until_ready(operator: Operator) -> None:
    async def ready() -> bool:
        return (await operator.get("readyz"))[0] == 200

    await until(ready, 180)


async def start_again(cluster: Cluster, log: Path) -> tuple[dict[str, float], Operator]:
    """From the start of the process to ready, and to the end of the first look at everything."""
    started_s = time.monotonic()
    operator = start_operator(cluster.folder.kubeconfig, PORT, log)
    await until_ready(operator)
    ready_s = time.monotonic() - started_s

    async def looked_at_all() -> bool:
        _, metrics = await operator.get("metrics")
        return 'result="done"' in metrics and await operator.queue_depth() == 0

    await until(looked_at_all, 600)
    looked_s = time.monotonic() - started_s
    calls = await operator.calls()
    return {
        "readySeconds": round(ready_s, 1),
        "lookedAtAllSeconds": round(looked_s, 1),
        "writes": calls["writes"] - permission_questions(),
        "memoryMiB": round(operator.memory_mib[0]),
        "highestMemoryMiB": round(operator.memory_mib[1]),
    }, operator


def permission_questions() -> float:
    """Questions for permissions are POSTs, but write nothing."""
    return float(sum(len(verbs) for _, _, verbs in (*REQUIRED_ACCESS, *REQUIRED_OWN_ACCESS)))


async def empty(cluster: Cluster, whose: str) -> float:
    """Delete somebody's namespaces, so that they are not in the way of what follows; the seconds it took."""
    started_s, names = time.monotonic(), namespaces(whose)
    cluster.kubectl("delete", "namespace", *names, "--wait=false")

    async def gone() -> bool:
        await asyncio.sleep(2)
        return not cluster.kubectl("get", "namespace", *names, "--ignore-not-found", "-o", "name").strip()

    await until(gone, 900)
    return round(time.monotonic() - started_s, 1)


def measured(figures: dict[str, Any]) -> dict[str, float]:
    """The figures that have limits."""
    return {
        "timesPlainClient": round(figures["atOnce"]["readySeconds"] / figures["plain"]["readySeconds"], 2),
        "applyToReadySeconds": figures["atOnce"]["readySeconds"],
        "newP50Seconds": figures["new"]["p50Seconds"],
        "newP99Seconds": figures["new"]["p99Seconds"],
        "memoryMiB": max(figures[when]["highestMemoryMiB"] for when in ("grown", "start")),
        "writesAtRest": figures["rest"]["writes"],
        "readsPerSecondAtRest": figures["rest"]["readsPerSecond"],
        "startSeconds": figures["start"]["readySeconds"],
    }


def broken(figures: dict[str, Any]) -> list[str]:
    return [
        f"{name} is {value}, more than {LIMITS[name]}"
        for name, value in measured(figures).items()
        if value > LIMITS[name]
    ]


def speed_s() -> float:
    """Of CPU time, for what every reader can do at home: seconds of two machines compare no better."""
    began_s, total = time.process_time(), 0
    for number in range(10_000_000):
        total += number
    return round(time.process_time() - began_s, 2)


def write(figures: dict[str, Any]) -> None:
    document = {
        "inputHash": input_hash(),
        "nodes": NODES,
        "deployments": DEPLOYMENTS_AT_ONCE,
        "namespaces": NAMESPACES,
        "replicasAfterGrowth": REPLICAS,
        "cores": os.cpu_count(),
        "tenMillionAdditionsSeconds": speed_s(),
        "loadAverage": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        "limits": LIMITS,
        "measured": measured(figures),
        "figures": figures,
    }
    RESULT.write_text(json.dumps(document, indent=2) + "\n")
    PAGE.write_text(page(document, CONCURRENCY))
