"""Screened candidates (sums of parts) cost exactly what weighing each one alone says."""

from __future__ import annotations

import pytest

from diffusion_runtime.models.catalog import facts_for, known_models
from diffusion_runtime.planning.devices import device_from_product
from diffusion_runtime.planning.documents import Workload
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.evaluate import weigh
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.problem import Slot
from diffusion_runtime.planning.screening import everything
from diffusion_runtime.planning.validate import settle

SLOT = Slot(2**40, 2**40, None, 1)


@pytest.mark.parametrize("model", known_models())
@pytest.mark.parametrize("gpus", [1, 2, 8])
def test_sums_of_parts_are_the_whole(gpus: int, model: str) -> None:
    facts = facts_for(model)
    intent = Intent(gpus_per_replica=gpus, fsdp=True if gpus == 2 and "fsdp" in facts.correct_axes else None)
    try:
        problem = settle(facts, Workload(), intent, device_from_product("L40S"))
    except BadRequest:  # no layout of this family uses that many GPUs
        assert gpus > 1
        return
    found = everything(problem, gpus, SLOT)
    assert found
    step = max(1, len(found) // 60)
    for one in found[::step]:
        exact = weigh(problem, SLOT, one.option, one.placement, one.tile_size, one.resident_blocks)
        assert (one.peak, one.host) == (exact.memory.peak, exact.memory.host)
        assert one.seconds == pytest.approx(exact.times.request, abs=1e-6)
