"""auto, memory and bias plans never exceed the memory that they claim to fit, whatever is free."""

from __future__ import annotations

from typing import Any

import pytest

from builders.asking import Answers, Nodes
from diffusion_runtime.planning.documents import NoPlan


@pytest.mark.parametrize("model", ["demo", "Qwen/Qwen-Image", "Wan-AI/Wan2.1-T2V-14B-Diffusers"])
@pytest.mark.parametrize(
    "wish", [{"mode": "auto"}, {"mode": "memory"}, {"bias": 0.3}, {"bias": 1.0}], ids=repr
)
def test_peak_within_free_less_reserve(
    answer: Answers, gpus: Nodes, model: str, wish: dict[str, Any]
) -> None:
    planned = 0
    for gib in (1, 4, 12, 18, 26, 38, 52, 70, 100, 139):
        found = answer(
            model, gpus("H200", "H200", free_bytes=[None, gib * 2**30]), gpus_per_replica=2, **wish
        )
        if isinstance(found, NoPlan):
            assert found.shortfall_bytes is not None
            assert found.shortfall_bytes > 0
        else:
            planned += 1
            assert found.memory.peak_per_gpu_bytes <= gib * 2**30 * 0.95
    assert planned >= 5
