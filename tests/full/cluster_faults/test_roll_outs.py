"""Roll-outs, their way back and a scale-down while clients draw without pause: no accepted request breaks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cluster.conftest import GPUS
from cluster.outages import SCHEDULER, away
from cluster.room import DEPLOYMENT_LABEL, Room, gpus_of, is_true, manifest, pod_is_ready
from cluster.steady import DEADLINE_SECONDS, Answers, drawing
from cluster.watching import EVERYWHERE, Object, State, await_state
from full.cluster_faults.results import record
from localcluster.gpunodes import set_gpus

NAME = "drawn"
FEW = 6  # pictures; two clients ask, one after the other each
PLAN_HASH = "diffusion-operator.io/plan-hash"
ONE_GPU = {"parallelism": {"gpusPerReplica": 1}}
OTHER_PLAN = {"workload": {"shapes": [{"width": 64, "height": 64, "steps": 4}]}}

pytestmark = pytest.mark.timeout(900)


def served_by(plan_hash: str, replicas: int) -> Callable[[State], bool]:
    """For `await_pods`: exactly so many pods are left, all of this plan and Ready."""

    def holds(state: State) -> bool:
        plans = [pod["metadata"]["annotations"][PLAN_HASH] for pod in state.values()]
        return plans == [plan_hash] * replicas and all(map(pod_is_ready, state.values()))

    return holds


def await_alone(room: Room) -> None:
    """Return once no other room's engines are on the node."""

    def alone(state: State) -> bool:
        here = [pod for pod in state.values() if pod["spec"].get("nodeName") == room.cluster.folder.node]
        return {pod["metadata"]["namespace"] for pod in here} == {room.namespace}

    await_state(
        room.cluster, EVERYWHERE, "pods", alone, "no other engine on the node", selector=DEPLOYMENT_LABEL
    )


@contextmanager
def full_node(room: Room) -> Iterator[None]:
    """The node has no GPU but those that the pods of this room hold; afterwards it has as many as before."""
    await_alone(room)
    set_gpus(room.cluster, sum(map(gpus_of, room.pods(NAME))))
    try:
        yield
    finally:
        set_gpus(room.cluster, GPUS)


def start(room: Room, replicas: int) -> Object:
    room.apply(manifest(NAME, replicas=replicas, **ONE_GPU))
    room.await_dd(NAME, lambda dd: dd.get("status", {}).get("readyReplicas") == replicas, "serves")
    return room.await_ready(NAME)


def change_the_plan(room: Room, before: Object, replicas: int) -> float:
    """Seconds until only pods of the new plan are left, all Ready."""
    began_s = time.monotonic()
    room.apply(manifest(NAME, replicas=replicas, **ONE_GPU, **OTHER_PLAN))
    after = room.await_ready(NAME)["status"]["plan"]["hash"]
    assert after != before["status"]["plan"]["hash"]
    room.await_pods(NAME, served_by(after, replicas), f"{replicas} pods of the new plan and no others")
    return time.monotonic() - began_s


def keep(row: str, took_s: float, answers: Answers, *allowed: str) -> None:
    """Judge the answers and write the row."""
    assert answers.others("retryable", *allowed) == {}, answers
    assert answers.kinds["200"] > 0
    assert answers.longest_s < DEADLINE_SECONDS
    record(
        f"roll-out: {row}", took_s, answers=dict(answers.kinds), longestSeconds=round(answers.longest_s, 1)
    )


def test_a_second_pod_comes_first(room: Room) -> None:
    before = start(room, 1)
    with drawing(room, NAME) as answers:
        took_s = change_the_plan(room, before, 1)
        answers.await_pictures(FEW)  # the new pod draws
    keep("surge", took_s, answers)


@pytest.mark.parametrize("replicas", [2, 1])
def test_a_full_node(room: Room, replicas: int) -> None:
    before = start(room, replicas)
    with full_node(room), drawing(room, NAME) as answers:
        took_s = change_the_plan(room, before, replicas)
        answers.await_pictures(FEW)  # the new pods draw
    row, refused = ("two replicas", ()) if replicas == 2 else ("one replica", ("not accepted",))
    keep(f"full node, {row}", took_s, answers, *refused)


def test_a_spare_gpu_that_somebody_takes(room: Room) -> None:
    before = start(room, 1)
    await_alone(room)
    try:
        with drawing(room, NAME) as answers:
            with away(room.cluster, SCHEDULER):  # so that the new pod has no node yet
                room.apply(manifest(NAME, **ONE_GPU, **OTHER_PLAN))
                room.await_pods(NAME, lambda state: len(state) == 2, "a second pod")
                set_gpus(room.cluster, 1)
            took_s = change_the_plan(room, before, 1)
            answers.await_pictures(FEW)  # the new pod draws
    finally:
        set_gpus(room.cluster, GPUS)
    keep("spare GPU taken, one replica", took_s, answers, "not accepted")


def test_a_plan_that_cannot_start_is_taken_back(room: Room) -> None:
    before = start(room, 1)
    (old,) = (pod["metadata"]["name"] for pod in room.pods(NAME))
    with drawing(room, NAME) as answers:
        began_s = time.monotonic()
        room.apply(manifest(NAME, replicas=1, performance={"device": "cuda"}, **ONE_GPU))
        dd = room.await_dd(NAME, lambda dd: is_true(dd, "Degraded"), "has gone back")
        room.await_pods(NAME, lambda state: list(state) == [old], "only the old pod is left")
        took_s = time.monotonic() - began_s
    assert dd["status"]["plan"]["hash"] == before["status"]["plan"]["hash"]
    keep("taken back", took_s, answers)


def test_a_replica_goes(room: Room) -> None:
    start(room, 2)
    with drawing(room, NAME) as answers:
        answers.await_pictures(FEW)  # both have work
        began_s = time.monotonic()
        room.kubectl("scale", "dd", NAME, "--replicas=1")
        room.await_pods(NAME, lambda state: len(state) == 1, "one pod")
        took_s = time.monotonic() - began_s
    keep("scale-down", took_s, answers)
