"""Text encoders are sliced over all GPUs only when that is set, and only where their class has a plan."""

from __future__ import annotations

import pytest

from builders.asking import Nodes, Plans
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.documents import Execution, Layout, execution_hash
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.explain import layout_summary
from diffusion_runtime.planning.facts import ModelFacts


@pytest.fixture
def qwen_facts() -> ModelFacts:
    return facts_for("Qwen/Qwen-Image")


def test_only_when_set(plan: Plans, gpus: Nodes, qwen_facts: ModelFacts) -> None:
    for mode in ("auto", "speed", "memory", "manual"):
        assert not plan(qwen_facts, gpus("H200", "H200"), mode=mode).layout.text_encoder_tensor


def test_each_gpu_holds_its_part_of_the_sliced_matrices(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts
) -> None:
    node = gpus("H200", "H200")
    whole = plan(qwen_facts, node, gpus_per_replica=2)
    sliced = plan(qwen_facts, node, gpus_per_replica=2, text_encoder_tensor=True)
    encoder = qwen_facts.component("text_encoder")
    saved = encoder.sliced_elements * 2 // 2
    assert whole.memory.phases.denoise.weights_bytes - sliced.memory.phases.denoise.weights_bytes == saved
    assert saved > 0.7 * encoder.elements
    assert "textEncoderTensor = true" in sliced.overrides
    assert not any("parity" in warning for warning in sliced.warnings)


def test_a_count_is_chosen_that_divides_the_heads(plan: Plans, gpus: Nodes, qwen_facts: ModelFacts) -> None:
    found = plan(qwen_facts, gpus("H200", "H200"), mode="memory", text_encoder_tensor=True)
    assert found.gpus_per_replica == 2
    assert layout_summary(found.layout, 2).endswith("text encoder tensor 2")


@pytest.mark.parametrize("model", ["Wan-AI/Wan2.1-T2V-14B-Diffusers", "black-forest-labs/FLUX.1-dev"])
def test_a_model_without_a_plan_is_refused_with_those_that_have_one(
    model: str, plan: Plans, gpus: Nodes
) -> None:
    with pytest.raises(BadRequest, match=r"T5EncoderModel.*Gemma3ForConditionalGeneration, Qwen2_5_VL"):
        plan(facts_for(model), gpus("H200", "H200"), text_encoder_tensor=True)


def test_one_gpu_is_refused(plan: Plans, gpus: Nodes, qwen_facts: ModelFacts) -> None:
    with pytest.raises(BadRequest, match="nobody to share with"):
        plan(qwen_facts, gpus("H200"), gpus_per_replica=1, text_encoder_tensor=True)


def test_a_count_that_does_not_divide_the_heads_is_refused_with_those_that_do(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts
) -> None:
    with pytest.raises(BadRequest, match="that work: 2, 4"):
        plan(qwen_facts, gpus(*["H200"] * 8), gpus_per_replica=8, text_encoder_tensor=True)


def test_plans_without_it_keep_their_hashes() -> None:
    execution = Execution(gpus_per_replica=2, layout=Layout(cfg=2), residency={}, dtype={})
    sliced = execution.model_copy(update={"layout": Layout(cfg=2, text_encoder_tensor=True)})
    assert execution_hash(execution) == "1e3f953448b9"
    assert execution_hash(sliced) != execution_hash(execution)
