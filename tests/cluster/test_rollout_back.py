"""A change that cannot start goes back to the plan that was ready; the old pod serves all the time."""

from __future__ import annotations

import json

import pytest

from cluster.room import Room, condition, is_true, manifest
from cluster.steady import drawing


@pytest.mark.ahead(manifest("back"))
def test_a_plan_that_cannot_start_is_taken_back(room: Room) -> None:
    before = room.await_ready("back")["status"]["plan"]["hash"]
    (old,) = (pod["metadata"]["name"] for pod in room.pods("back"))

    # The engine refuses a plan for CUDA on a machine without a GPU.
    with drawing(room, "back", at_once=1, pause_s=0.5) as answers:
        room.apply(manifest("back", performance={"device": "cuda"}))
        dd = room.await_dd("back", lambda dd: is_true(dd, "Degraded"), "has gone back")
        room.await_pods("back", lambda state: list(state) == [old], "only the old pod is left")
    assert answers.others("retryable") == {}, answers
    assert answers.kinds["200"] > 0
    assert condition(dd, "Degraded")["reason"] == condition(dd, "Stalled")["reason"] == "RolledBack"
    assert "NoUsableGpu" in condition(dd, "Degraded")["message"]
    assert condition(dd, "Ready")["reason"] == "RolledBack"
    assert dd["status"]["plan"]["hash"] == before
    (failure,) = dd["status"]["history"]["failed"]
    assert failure["planHash"] != before
    told = json.loads(room.plugin("history", "back", "-o", "json"))["plans"]
    assert [(plan["planHash"], plan["state"]) for plan in told] == [
        (before, "serves"),
        (failure["planHash"], "failed"),
    ]
    (promise,) = json.loads(room.plugin("promises", "-o", "json"))["promises"]
    assert (promise["name"], promise["boundPods"], promise["waitingPods"]) == ("back", 1, 0)
    events = room.kubectl("get", "events", "-o", "jsonpath={.items[*].reason}").split()
    assert events.count("RolledBack") == 1

    room.apply(manifest("back"))
    room.await_ready("back")
    (same,) = (pod["metadata"]["name"] for pod in room.pods("back"))
    assert same == old
