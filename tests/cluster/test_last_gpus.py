"""Two deployments want the last GPUs: one runs, the other says what is missing, and runs by itself once
GPUs appear.
"""

from __future__ import annotations

import pytest

from cluster.conftest import SERVED
from cluster.room import Room, condition, gpus_of, is_true, manifest
from localcluster.gpunodes import set_gpus

TWO_GPUS = {"parallelism": {"gpusPerReplica": 2, "cfg": 2}, "workload": {"guidance": "on"}}


@pytest.mark.ahead(manifest("first", **TWO_GPUS))
@pytest.mark.usefixtures("gpus", "alone")
def test_one_waits_with_numbers_and_runs_when_gpus_appear(served: Room, room: Room) -> None:
    held = sum(gpus_of(pod) for pod in served.pods(SERVED))
    room.await_ready("first")
    set_gpus(room.cluster, held + 2)

    room.apply(manifest("second", **TWO_GPUS))
    waiting = room.await_dd("second", lambda dd: is_true(dd, "Reconciling"), "waits")
    assert condition(waiting, "Reconciling")["reason"] == "InsufficientGPUs"
    assert condition(waiting, "Ready")["status"] == "False"
    assert not is_true(waiting, "Stalled")
    message = condition(waiting, "Reconciling")["message"]
    assert "needs 2 GPUs" in message
    assert f"0 of {held + 2} free" in message
    assert room.pods("second") == []

    generation = waiting["metadata"]["generation"]
    set_gpus(room.cluster, held + 4)
    running = room.await_ready("second")
    assert running["metadata"]["generation"] == generation
    assert running["status"]["plan"]["layoutSummary"] == "cfg 2"
    assert [gpus_of(pod) for pod in room.pods("second")] == [2]
    assert is_true(room.get("first"), "Ready")
