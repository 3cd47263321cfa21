"""status.observed: peaks by phase beside the predicted ones, quiet below two per cent."""

from __future__ import annotations

import pytest

from diffusion_operator.reconcile.observed import observed_status, steady
from diffusion_runtime.planning.documents import EngineReport, PhaseMeasurement
from unit.reconcile.plans import plan, report

PLAN = plan()
GIB = 1 << 30


def measured(decode: int, seconds: float = 2.0, **more: object) -> EngineReport:
    phases = {"load": PhaseMeasurement(driver_bytes=GIB), "decode": PhaseMeasurement(driver_bytes=decode)}
    changes = {"phases": phases, "seconds_per_request": seconds, **more}
    return report(PLAN).model_copy(update=changes)


def test_peaks_of_phases_stand_beside_their_prediction() -> None:
    found = observed_status({"a": measured(3 * GIB), "b": measured(2 * GIB)}, [PLAN], {})
    memory = PLAN.memory
    predicted = (
        memory.context_bytes + memory.phases.decode.weights_bytes + memory.phases.decode.activation_bytes
    )
    assert found["phases"] == [
        {"phase": "load", "peakBytes": GIB, "predictedBytes": predicted},
        {"phase": "decode", "peakBytes": 3 * GIB, "predictedBytes": predicted},
    ]
    assert (found["peakPerGPU"], found["predictedPeakPerGPU"]) == ("3.0GiB", "2.0GiB")
    assert found["secondsPerRequest"] == 2.0
    assert found["executingHash"] == PLAN.hash


@pytest.mark.parametrize(("decode", "kept"), [(3 * GIB * 1.019, True), (3 * GIB * 1.021, False)])
def test_two_per_cent_decide_what_is_written(decode: float, kept: bool) -> None:
    before = observed_status({"a": measured(3 * GIB)}, [PLAN], {})
    after = observed_status({"a": measured(int(decode))}, [PLAN], before)
    assert (after == before) is kept


def test_small_steps_add_up() -> None:
    """What is compared is what was written, so a slow drift is not lost."""
    status = observed_status({"a": measured(3 * GIB)}, [PLAN], {})
    for percent in (1, 2, 3):
        status = observed_status({"a": measured(3 * GIB * (100 + percent) // 100)}, [PLAN], status)
    assert status["phases"][1]["peakBytes"] == 3 * GIB * 103 // 100


def test_a_device_that_measures_nothing_gives_no_peak() -> None:
    found = observed_status({"a": report(PLAN)}, [PLAN], {})
    assert found == {"executingHash": PLAN.hash}


def test_a_fallback_is_not_compared_with_the_plans_phases() -> None:
    other = measured(3 * GIB, executing_hash="bbbbbbbbbbbb")
    found = observed_status({"a": other}, [PLAN], {})
    assert all("predictedBytes" not in phase for phase in found["phases"])


@pytest.mark.parametrize(("now", "before", "says"), [(2.1, 2.0, 2.1), (2.03, 2.0, 2.0), (1.0, None, 1.0)])
def test_steady(now: float, before: float | None, says: float) -> None:
    assert steady(now, before) == says
