"""No GPU is promised twice on a real cluster, though all changes at once and the leader is killed meanwhile.

Smaller runs: DIFFUSION_PROMISES_DEPLOYMENTS, _GPUS (a multiple of 15), _SECONDS, _KILLS; the result says how
large it was.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.operatorpods import await_leader, kill, remove, said, without_its_leader
from cluster.room import DEPLOYMENT_LABEL, Room
from cluster.watching import Object
from diffusion_operator.kube.rest import ClientSettings, RestKubeClient, load_configuration
from full.promises.crowd import Crowd, live_nodes, sizes_for
from full.promises.following import Promises, followed
from full.promises.results import record
from localcluster.kindcluster import Cluster

DEPLOYMENTS = int(os.environ.get("DIFFUSION_PROMISES_DEPLOYMENTS", "200"))
GPUS = int(os.environ.get("DIFFUSION_PROMISES_GPUS", "300"))
SECONDS = float(os.environ.get("DIFFUSION_PROMISES_SECONDS", "180"))
KILLS = int(os.environ.get("DIFFUSION_PROMISES_KILLS", "5"))
SEED = 1
TAKEOVER_S = 15.0
QUIET_S = 60.0
"""No promise changes for so long: longer than a pod may be without a node before its promise ends."""
SETTLED_S = 420.0
FAULTS = ("Traceback (most recent call last)", "bug in the operator")

pytestmark = pytest.mark.timeout(2400)


async def test_no_gpu_is_promised_twice_and_every_promise_has_its_place(room: Room, tmp_path: Path) -> None:
    cluster, sizes = room.cluster, sizes_for(GPUS)
    settings = ClientSettings(
        kubeconfig=str(cluster.folder.kubeconfig), field_manager="crowd", rate_per_s=1000, burst=1000
    )
    configuration = await load_configuration(settings)
    client = RestKubeClient(configuration, settings)
    promises = Promises(sizes, tmp_path / "promises.jsonl")
    crowd = Crowd(client, room.namespace, SEED, SECONDS)
    began_s = time.monotonic()
    await_leader(cluster)
    try:
        with live_nodes(cluster, room.namespace, sizes):
            async with followed(configuration, room.namespace, promises) as watch, asyncio.timeout(1800):
                async with asyncio.TaskGroup() as acting:
                    ending = acting.create_task(_end_leaders(cluster))
                    acting.create_task(crowd.live(DEPLOYMENTS))
                takeovers = ending.result()
                acted_s = time.monotonic()
                await _settle(promises, watch)
                pods = _pods(room)
                homeless = _promised_without_a_place(promises, pods)
                waiting = [pod for pod in pods if _unschedulable_s(pod) > 0]
    finally:
        await client.close()
        print(f"every event: {promises.journal}")
    figures = {
        "deployments": DEPLOYMENTS,
        "gpus": GPUS,
        "nodes": sum(sizes.values()),
        "deeds": dict(crowd.done),
        "versionsChecked": promises.checked,
        "mostPromisedGpus": promises.most_gpus,
        "violations": len(promises.violations),
        "leaderKills": len(takeovers),
        "longestTakeoverSeconds": round(max(takeovers), 1),
        "settledSeconds": round(max(0.0, promises.changed_s - acted_s), 1),
        "promisedGpus": promises.gpus,
        "promisedWithoutAPlace": len(homeless),
        "podsWithoutAPlace": len(waiting),
    }
    print(json.dumps(figures))
    assert promises.violations == [], promises.violations[:5]
    assert homeless == {}
    assert promises.most_gpus > GPUS * 3 // 4  # they did compete
    assert max(takeovers) <= TAKEOVER_S, takeovers
    assert not any(fault in said(cluster, began_s) for fault in FAULTS)
    record(figures)


async def _end_leaders(cluster: Cluster) -> list[float]:
    """Seconds of each takeover; the kills are spread over the time in which the crowd acts."""
    begin_s, seconds = time.monotonic(), []
    for number in range(KILLS):
        due_s = begin_s + SECONDS * (number + 0.5) / KILLS
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        end = (kill, remove)[number % 2]
        seconds.append(await asyncio.to_thread(without_its_leader, cluster, end))
    return seconds


async def _settle(promises: Promises, watch: asyncio.Task[None]) -> None:
    """Return once no promise has changed for a while."""
    limit_s = time.monotonic() + SETTLED_S
    while (quiet_s := time.monotonic() - promises.changed_s) < QUIET_S:
        assert not watch.done(), watch.exception()
        assert time.monotonic() < limit_s, "the promises do not come to rest"
        await asyncio.sleep(QUIET_S - quiet_s)


def _pods(room: Room) -> list[Object]:
    listed: list[Object] = json.loads(room.kubectl("get", "pods", "-o", "json"))["items"]
    return [pod for pod in listed if "deletionTimestamp" not in pod["metadata"]]


def _promised_without_a_place(promises: Promises, pods: list[Object]) -> dict[str, str]:
    """Deployments that promise more replicas than have a node, while a pod of theirs waits for one or none
    comes: by name, what is missing.
    """
    bound = Counter(pod["metadata"]["labels"][DEPLOYMENT_LABEL] for pod in pods if "nodeName" in pod["spec"])
    longest: dict[str, float] = {}
    for pod in pods:
        name = pod["metadata"]["labels"][DEPLOYMENT_LABEL]
        longest[name] = max(longest.get(name, 0.0), _unschedulable_s(pod))
    return {
        name: f"{replicas} promised, {bound[name]} have a node; waiting {longest.get(name, 0.0):.0f} s"
        for name, replicas in promises.replicas().items()
        if replicas > bound[name]
    }


def _unschedulable_s(pod: Object) -> float:
    """How long the scheduler has said that it finds no node; 0 where it has one."""
    for entry in pod.get("status", {}).get("conditions", ()):
        if entry["type"] == "PodScheduled" and entry["status"] == "False":
            since = datetime.fromisoformat(entry["lastTransitionTime"])
            return (datetime.now(UTC) - since).total_seconds()
    return 0.0
