"""Every built-in model: facts that hold together, and a plan on a large GPU."""

from __future__ import annotations

import pytest

from builders.asking import Answers, Nodes, Plans
from diffusion_runtime.models import wan
from diffusion_runtime.models.catalog import facts_for, family_named, known_models
from diffusion_runtime.models.wan_published import WAN_2_2_TI2V_5B
from diffusion_runtime.planning.facts import ModelFacts

EVERY = pytest.mark.parametrize("model", known_models())
STREAMED = {"qwen-image", "wan", "flux", "ltx-2", "mova"}


def test_the_models_of_the_cookbook_are_known() -> None:
    wanted = (
        "Qwen/Qwen-Image", "Qwen/Qwen-Image-Edit", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        "Wan-AI/Wan2.1-T2V-14B-Diffusers", "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers", "Wan-AI/Wan2.2-T2V-A14B-Diffusers", "Tongyi-MAI/Z-Image",
        "Tongyi-MAI/Z-Image-Turbo", "black-forest-labs/FLUX.1-dev", "Lightricks/LTX-2",
    )  # fmt: skip
    assert set(wanted) <= set(known_models())
    assert any("MOVA" in model for model in known_models())


@EVERY
def test_facts_hold_together(model: str) -> None:
    facts = facts_for(model)
    assert facts == ModelFacts.model_validate_json(facts.to_json())
    assert family_named(facts.model.family).name == facts.model.family
    assert set(facts.proven_axes) <= set(facts.correct_axes)
    assert facts.sources
    shape, sizes = facts.default_shape, facts.sizes
    assert shape.width % sizes.multiple == shape.height % sizes.multiple == 0
    assert (shape.frames - 1) % sizes.frame_multiple == 0 if sizes.frame_multiple else shape.frames == 1
    for component in facts.components:
        assert component.all_blocks_bytes("bfloat16") < component.bytes("bfloat16")
        streamed = "layerwise" in component.correct_residencies
        assert streamed == (component.kind == "transformer" and facts.model.family in STREAMED)


@EVERY
def test_a_plan_on_two_large_gpus(plan: Plans, gpus: Nodes, model: str) -> None:
    found = plan(model, gpus("H200", "H200"))
    assert all(residency.mode == "resident" for residency in found.residency.values())
    assert found.memory.peak_per_gpu_bytes > 0
    assert set(facts_for(model).notes) <= set(found.warnings)


def test_flux_streams_on_a_small_gpu(plan: Plans, gpus: Nodes) -> None:
    found = plan("black-forest-labs/FLUX.1-dev", gpus("RTX-4090"))
    assert found.residency["transformer"].mode == "layerwise"
    assert found.memory.peak_per_gpu_bytes < 24_210 * 2**20


def test_an_encoder_larger_than_the_gpu_is_no_plan(answer: Answers, gpus: Nodes) -> None:
    refused = answer("Lightricks/LTX-2", gpus("RTX-4090"))
    assert refused.reason == "InsufficientMemory"
    assert "text phase" in refused.message


def test_two_experts_and_the_parts_of_a_sound_model() -> None:
    assert {"transformer", "transformer_2"} <= set(
        facts_for("Wan-AI/Wan2.2-T2V-A14B-Diffusers").component_names
    )
    kinds = {component.kind for component in facts_for("Lightricks/LTX-2").components}
    assert {"transformer", "textEncoder", "vae", "vocoder", "upsampler"} <= kinds


def test_a_vae_that_packs_pixels_makes_tokens_twice_as_wide() -> None:
    packed, plain = (
        facts_for("Wan-AI/Wan2.2-TI2V-5B-Diffusers"),
        facts_for("Wan-AI/Wan2.1-T2V-1.3B-Diffusers"),
    )
    assert (packed.sizes.multiple, plain.sizes.multiple) == (32, 16)
    assert packed.denoise.token_pixels == 2 * plain.denoise.token_pixels
    config = WAN_2_2_TI2V_5B.part("transformer").config
    alone = wan.denoise_facts(config, packed.sizes.multiple)
    more = packed.denoise.eager.bytes_per_token - alone.eager.bytes_per_token
    assert more == pytest.approx(62 * 24 * 128)
    assert any("not measured" in note for note in packed.notes)


def test_only_models_that_need_it_are_guided() -> None:
    guided = {model for model in known_models() if facts_for(model).guided_by_default}
    assert set(known_models()) - guided == {"Tongyi-MAI/Z-Image-Turbo", "black-forest-labs/FLUX.1-dev"}
