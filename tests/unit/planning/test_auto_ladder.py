"""auto gives up as little as possible: encoders, then VAE, then FSDP, component, layerwise."""

from __future__ import annotations

import pytest

from builders.asking import Answers, Modes, Nodes, Plans
from diffusion_runtime.models.catalog import facts_for

RUNG = {"resident": 0, "component": 1, "layerwise": 2}


def test_everything_resident_where_it_fits(plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes) -> None:
    assert set(modes_of(plan(qwen, gpus("H200"))).values()) == {"resident"}


def test_encoders_go_first(plan: Plans, gpus: Nodes, wan: str, modes_of: Modes) -> None:
    assert modes_of(plan(wan, gpus("L40S", free_bytes=[int(41.3 * 2**30)]))) == {
        "text_encoder": "component",
        "transformer": "resident",
        "vae": "resident",
    }


def test_tiled_decode_comes_before_moving_weights(
    plan: Plans, gpus: Nodes, wan: str, modes_of: Modes
) -> None:
    found = plan(wan, gpus("L40S"), compile=True)
    assert set(modes_of(found).values()) == {"resident"}
    assert found.vae.tiling
    assert any("tiles of 256 pixels" in reason for reason in found.reasons)


def test_then_the_transformer_visits(plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes) -> None:
    assert modes_of(plan(qwen, gpus("L40S")))["transformer"] == "component"


def test_then_it_is_streamed(plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes) -> None:
    assert modes_of(plan(qwen, gpus("RTX-4090")))["transformer"] == "layerwise"


@pytest.mark.parametrize("model", ["Qwen/Qwen-Image", "Wan-AI/Wan2.1-T2V-14B-Diffusers"])
def test_more_free_memory_never_means_a_later_rung(
    answer: Answers, gpus: Nodes, model: str, modes_of: Modes
) -> None:
    steps = []
    for gib in range(8, 140, 4):
        found = answer(model, gpus("H200", free_bytes=[gib * 2**30]))
        if hasattr(found, "residency"):
            modes = modes_of(found)
            steps.append((RUNG[modes["transformer"]], RUNG[modes["vae"]], RUNG[modes["text_encoder"]]))
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps)) >= 3


def test_the_streamed_rung_needs_a_family_that_is_correct_in_it(
    answer: Answers, gpus: Nodes, qwen: str
) -> None:
    facts = facts_for(qwen)
    parts = tuple(
        part.model_copy(update={"correct_residencies": ("resident", "component")})
        for part in facts.components
    )
    refused = answer(facts.model_copy(update={"components": parts}), gpus("RTX-4090"))
    assert refused.reason == "InsufficientMemory"
    assert refused.shortfall_bytes > 2**30
    assert refused.rejected
