"""What an engine measures goes through the reconcile into status.observed, and only what moved is written."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.kube.resources import CONFIG_MAPS, PODS, JsonObject
from diffusion_operator.reconcile.story import MEASURED_RECHECK_S
from diffusion_runtime.planning.documents import PhaseMeasurement, Plan
from unit.reconcile.worlds import World, demo, world

GIB = 1 << 30
STATUS_ALONE = [("status", "DiffusionDeployment", "demo")]
DEPLOYMENTS_AT_REST, READS_PER_SECOND_AT_REST = 1000, 5.0


async def serving() -> tuple[World, str, Plan]:
    """One replica that serves, its pod and the plan that the pod mounts."""
    made = world(2)
    made.cluster.submit(demo())
    await made.settle()
    (pod,) = made.cluster.names(PODS)
    (name,) = made.cluster.names(CONFIG_MAPS)
    document = made.cluster.get_now(CONFIG_MAPS, name)["data"]["plan.json"]
    return made, pod, Plan.model_validate_json(document)


def figures(denoise: float, seconds: float = 2.0) -> dict[str, Any]:
    """Fields of a report after a picture."""
    phases = {
        "load": PhaseMeasurement(driver_bytes=2 * GIB, seconds=4.0),
        "denoise": PhaseMeasurement(driver_bytes=int(denoise), seconds=1.5),
    }
    return {"phases": phases, "seconds_per_step": seconds / 12, "seconds_per_request": seconds}


def observed(made: World) -> JsonObject:
    return dict(made.status()["observed"])


async def test_measured_stands_beside_predicted() -> None:
    made, pod, plan = await serving()
    assert "phases" not in observed(made)
    written = len(made.cluster.writes)
    made.cluster.measured[pod] = figures(3 * GIB) | {"load_seconds": 7.0}
    await made.reconcile()
    assert made.writes_since(written) == STATUS_ALONE

    def predicted(phase: str) -> int:
        memory = getattr(plan.memory.phases, phase)
        parts = memory.weights_bytes + memory.activation_bytes + memory.gap_bytes
        return int(plan.memory.context_bytes + parts)

    found = observed(made)
    assert found["phases"] == [
        {"phase": "load", "peakBytes": 2 * GIB, "predictedBytes": predicted("load")},
        {"phase": "denoise", "peakBytes": 3 * GIB, "predictedBytes": predicted("denoise")},
    ]
    assert found["peakPerGPU"] == "3.0GiB"
    assert (found["secondsPerStep"], found["secondsPerRequest"], found["loadSeconds"]) == (0.17, 2.0, 7.0)
    assert found["executingHash"] == plan.hash
    assert made.condition("Ready")["status"] == "True"


@pytest.mark.parametrize(("move", "writes"), [(1.0, []), (1.019, []), (0.981, []), (1.021, STATUS_ALONE)])
async def test_only_a_move_of_more_than_two_per_cent_is_written(move: float, writes: Any) -> None:
    made, pod, _ = await serving()
    made.cluster.measured[pod] = figures(3 * GIB)
    await made.reconcile()
    written = len(made.cluster.writes)
    made.cluster.measured[pod] = figures(move * 3 * GIB, 2.0 * (1.01 if move < 1.02 else 1.0))
    for _ in range(3):
        await made.reconcile()
    assert made.writes_since(written) == writes


async def test_a_ready_engine_is_asked_again_after_minutes_without_any_event() -> None:
    made, pod, _ = await serving()
    waits = [(await made.reconcile()).recheck_after_s for _ in range(50)]
    assert all(wait is not None for wait in waits)
    soonest = min(wait for wait in waits if wait is not None)
    assert soonest >= 0.85 * MEASURED_RECHECK_S
    assert max(wait for wait in waits if wait is not None) <= 1.15 * MEASURED_RECHECK_S <= 360
    assert len(set(waits)) > 1
    # One read a look at most, of a ServiceMonitor: at rest they stay under what is promised.
    assert DEPLOYMENTS_AT_REST / MEASURED_RECHECK_S < READS_PER_SECOND_AT_REST * 0.85
    made.cluster.silent.add(pod)
    assert (await made.reconcile()).recheck_after_s == 5.0


async def test_nobody_is_asked_again_while_nothing_serves() -> None:
    made = world(2)
    made.cluster.engines_ready = False
    made.cluster.submit(demo())
    await made.settle()
    assert (await made.reconcile()).recheck_after_s is None
