"""F12: an engine's pod or its node goes, each way once; every accepted request is answered or broken off."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from cluster.outages import evict, in_node, kill_engine
from cluster.room import DEPLOYMENT_LABEL, Room, manifest, pod_is_ready
from cluster.steady import DEADLINE_SECONDS, drawing
from cluster.watching import Object, State
from diffusion_runtime.loading.allowed import FAMILIES
from diffusion_runtime.server.api import build_api
from diffusion_runtime.server.image_request import rules_of
from engine.fake_group import fake_engine
from engine.plans import cpu_execution, plan_for
from full.cluster_faults.results import record
from localcluster.gpunodes import FAKE_TAINT, L40S, fake_node
from localcluster.kindcluster import Cluster
from localcluster.shell import CommandError

NAME = "drawn"
FEW = 6  # pictures; three clients ask, one after the other each
MEMORY_LIMIT = "5Gi"
# The first process is made the kernel's first choice; then the container is filled until somebody has to go.
# By many processes: one that holds more than half of the limit would itself be chosen, whatever is preferred.
FILL = """
import os, time
open("/proc/1/oom_score_adj", "w").write("1000")
for _ in range(48):
    if os.fork() == 0:
        held = b"x" * 2**27
        time.sleep(30)
        os._exit(0)
    time.sleep(0.2)
time.sleep(30)
"""
POOL = {"pool": "lost"}

pytestmark = pytest.mark.timeout(900)


def drain(room: Room, pod: Object) -> None:
    node, selector = pod["spec"]["nodeName"], f"--pod-selector={DEPLOYMENT_LABEL}={NAME}"
    try:
        words = ("--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s")
        room.cluster.kubectl("drain", node, selector, *words, timeout_seconds=150)
    finally:
        room.cluster.kubectl("uncordon", node)


def stop_kubelet(room: Room, pod: Object) -> None:
    """Its containers go on; the control plane thinks that they are gone."""
    node = pod["spec"]["nodeName"]
    in_node(room.cluster, "systemctl stop kubelet")
    try:
        room.cluster.kubectl("wait", f"node/{node}", "--for=condition=Ready=Unknown", "--timeout=110s")
        room.await_pods(NAME, lambda state: not any(map(pod_is_ready, state.values())), "no Ready pod")
    finally:
        in_node(room.cluster, "systemctl start kubelet")
    room.cluster.kubectl("wait", f"node/{node}", "--for=condition=Ready", "--timeout=110s")


def lose_heartbeats(cluster: Cluster, node: str) -> None:
    """KWOK renews the node's Lease no more: another holds it for an hour, and does not renew it either."""
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec = {"holderIdentity": "nobody", "leaseDurationSeconds": 3600, "renewTime": stamp}
    patch = json.dumps({"spec": spec})
    cluster.kubectl("-n", "kube-node-lease", "patch", "lease", node, "--type=merge", "-p", patch)


def fill_memory(room: Room, pod: Object) -> None:
    with suppress(CommandError):  # it is killed with the container
        room.kubectl("exec", pod["metadata"]["name"], "-c", "engine", "--", "python3", "-c", FILL)


DEEDS: dict[str, Callable[[Room, Object], None]] = {
    "killed": lambda room, pod: kill_engine(room.cluster, pod),
    "evicted": lambda room, pod: evict(room.cluster, pod),
    "drained": drain,
    "node NotReady": stop_kubelet,
    "out of memory": fill_memory,
}
# Those who are asked to go first answer what they have accepted.
GRACEFUL = ("evicted", "drained")
# The same pod serves on.
SAME = ("node NotReady",)


def identity(pod: Object) -> tuple[str, int]:
    restarts = sum(status["restartCount"] for status in pod["status"].get("containerStatuses", ()))
    return pod["metadata"]["uid"], restarts


@pytest.mark.parametrize("deed", DEEDS)
def test_a_replacement_serves_and_nobody_waits_for_ever(room: Room, deed: str) -> None:
    limits = {"pod": {"resources": {"limits": {"memory": MEMORY_LIMIT}}}} if deed == "out of memory" else {}
    room.apply(manifest(NAME, **limits))
    room.await_ready(NAME)
    (pod,) = room.pods(NAME)
    with drawing(room, NAME, at_once=3) as answers:
        answers.await_pictures(FEW)  # from now on one is being drawn and two wait
        DEEDS[deed](room, pod)
        done_s = time.monotonic()

        def replaced(state: State) -> bool:
            live = [one for one in state.values() if "deletionTimestamp" not in one["metadata"]]
            changed = deed in SAME or any(identity(one) != identity(pod) for one in live)
            return changed and len(live) == 1 and pod_is_ready(live[0])

        room.await_pods(NAME, replaced, "one replacement, Ready")
        room.await_ready(NAME)
        took_s = time.monotonic() - done_s
        answers.await_pictures(FEW)  # the replacement draws
    if deed == "out of memory":
        (after,) = room.pods(NAME)
        last = after["status"]["containerStatuses"][0]["lastState"]["terminated"]
        assert last["reason"] == "OOMKilled" or last["exitCode"] == 137, last
    broken = () if deed in GRACEFUL else ("connection lost",)
    assert answers.others("retryable", "not accepted", *broken) == {}, answers
    assert answers.kinds["200"] > 0
    assert answers.longest_s < DEADLINE_SECONDS
    record(f"F12: {deed}", took_s, answers=dict(answers.kinds), longestSeconds=round(answers.longest_s, 1))


def test_a_lost_node_s_pod_is_replaced_on_another(room: Room) -> None:
    cluster, names = room.cluster, ("lost-a", "lost-b")
    for name in names:
        node = fake_node(name, L40S, 1)
        node["metadata"]["labels"] |= POOL
        cluster.apply(node)
    try:
        cluster.kubectl("wait", "--for=condition=Ready", *(f"node/{name}" for name in names), "--timeout=60s")
        tolerations = [{"key": FAKE_TAINT, "operator": "Exists"}]
        room.apply(manifest(NAME, hardware={"nodeSelector": POOL, "tolerations": tolerations}))
        state = room.await_pods(NAME, lambda state: any(map(pod_is_ready, state.values())), "a Ready pod")
        (where,) = {pod["spec"]["nodeName"] for pod in state.values()}
        lose_heartbeats(cluster, where)
        cluster.kubectl("wait", f"node/{where}", "--for=condition=Ready=Unknown", "--timeout=110s")
        lost_s = time.monotonic()
        out = "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        cluster.kubectl("taint", "node", where, out)

        def elsewhere(state: State) -> bool:
            return [pod["spec"].get("nodeName") for pod in state.values() if pod_is_ready(pod)] == [
                name for name in names if name != where
            ]

        room.await_pods(NAME, elsewhere, "a Ready pod on the other node")
        took_s = time.monotonic() - lost_s
        placements = room.get(NAME)["status"]["placements"]
        assert [placement["replicas"] for placement in placements] == [1]
    finally:
        cluster.kubectl("delete", "node", *names, "--wait=false")
    record("F12: node lost", took_s)


async def test_requests_of_a_rank_that_runs_out_of_gpu_memory_are_answered(tmp_path: Path) -> None:
    kinds: dict[str, int] = {}
    began_s = time.monotonic()
    for number, fallbacks in enumerate(((), (cpu_execution(mode="component"),))):
        folder = tmp_path / str(number)
        folder.mkdir()
        plan = plan_for(cpu_execution(), fallbacks=fallbacks)
        engine = fake_engine(folder, plan, [{"draw": "oom"}, {}])
        running = asyncio.create_task(engine.run())
        app = build_api(engine, rules_of(plan, 16, FAMILIES["qwen-image"]))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://engine") as client:
            asked = (client.post("/v1/images/generations", json={"prompt": "a"}) for _ in range(4))
            async with asyncio.timeout(DEADLINE_SECONDS):
                answers = await asyncio.gather(*asked)
        for answer in answers:
            assert answer.status_code == 200 or "retry-after" in answer.headers, answer.text
            kind = "200" if answer.status_code == 200 else "retryable"
            assert answer.status_code in (200, 503)
            kinds[kind] = kinds.get(kind, 0) + 1
        engine.drain()
        await running
    assert kinds["200"] >= 4
    record("F12: CUDA out of memory", time.monotonic() - began_s, answers=kinds)
