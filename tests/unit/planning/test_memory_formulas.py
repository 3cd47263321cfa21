"""What each way of holding weights and working costs: rules restated on footprints, not on plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.devices import device_from_product
from diffusion_runtime.planning.documents import Layout, Shape
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.memory_model import Footprint, decode_bytes, denoise_bytes, footprint
from diffusion_runtime.planning.problem import Choice, Problem
from measured.cells import one_gpu

QWEN = "Qwen/Qwen-Image"
WAN = "Wan-AI/Wan2.1-T2V-14B-Diffusers"
EXPERTS = "Wan-AI/Wan2.2-T2V-A14B-Diffusers"
Z_IMAGE = "Tongyi-MAI/Z-Image"
GIB = 2**30


def question(model: str | ModelFacts, *, guided: bool = True, **shape: int) -> Problem:
    facts = facts_for(model) if isinstance(model, str) else model
    asked = Shape.model_validate(facts.default_shape.to_dict() | shape)
    dtype = dict.fromkeys(facts.component_names, "bfloat16")
    return Problem(facts, (asked,), guided, Intent(), dtype, device_from_product("H200"))


def answer(problem: Problem, modes: dict[str, str] | None = None, **changes: Any) -> Choice:
    choice = one_gpu(problem.facts)
    placement = tuple((name, (modes or {}).get(name, mode)) for name, mode in choice.residency)
    layout = changes.pop("layout", choice.layout)
    return replace(choice, residency=placement, layout=layout, gpus=layout.ranks, **changes)


def weighed(model: str | ModelFacts, modes: dict[str, str] | None = None, **changes: Any) -> Footprint:
    problem = question(model)
    return footprint(problem, answer(problem, modes, **changes))


def test_streaming_holds_two_blocks_and_what_is_outside_them() -> None:
    transformer = facts_for(QWEN).component("transformer")
    one = transformer.block_bytes("bfloat16")
    resident, streamed = weighed(QWEN), weighed(QWEN, {"transformer": "layerwise"})
    freed = resident.denoise.weights - streamed.denoise.weights
    assert freed == pytest.approx(60 * one - 2.35 * one, rel=1e-6)
    assert streamed.text.weights == resident.text.weights - transformer.bytes("bfloat16")
    assert streamed.host - resident.host == transformer.bytes("bfloat16")


@pytest.mark.parametrize("kept", [15, 30, 45])
def test_resident_blocks_beside_streamed_ones(kept: int) -> None:
    one = facts_for(QWEN).component("transformer").block_bytes("bfloat16")
    none = weighed(QWEN, {"transformer": "layerwise"})
    some = weighed(QWEN, {"transformer": "layerwise"}, resident_blocks=kept)
    assert some.denoise.weights - none.denoise.weights == kept * one
    assert none.host - some.host == kept * one


def test_fsdp_holds_a_shard_and_three_units() -> None:
    transformer = facts_for(QWEN).component("transformer")
    total, one = transformer.bytes("bfloat16"), transformer.block_bytes("bfloat16")
    rest = total - 60 * one
    whole = weighed(QWEN, layout=Layout(cfg=2))
    fine = weighed(QWEN, layout=Layout(cfg=2, fsdp=True))
    coarse = weighed(QWEN, layout=Layout(cfg=2, fsdp=True, fsdp_blocks_per_unit=4))
    assert whole.denoise.weights - fine.denoise.weights == total // 2 - 3 * one - rest
    assert coarse.denoise.weights - fine.denoise.weights == 3 * 3 * one


def test_tensor_parallel_splits_only_what_it_can() -> None:
    whole, split = weighed(QWEN), weighed(QWEN, layout=Layout(tensor=2))
    saved = whole.denoise.weights - split.denoise.weights
    assert saved == pytest.approx(
        0.667 / 2 * facts_for(QWEN).component("transformer").bytes("bfloat16"), rel=1e-6
    )


def test_sequence_ranks_share_activations_not_weights() -> None:
    problem = question(QWEN)
    alone, shared = (denoise_bytes(problem, answer(problem, layout=Layout(ulysses=n))) for n in (1, 2))
    fixed = problem.facts.denoise.eager.fixed_bytes
    assert shared[0] - fixed == pytest.approx((alone[0] - fixed) / 2, rel=1e-6)
    assert weighed(QWEN, layout=Layout(ulysses=2)).denoise.weights == weighed(QWEN).denoise.weights


def test_both_passes_in_one_batch_work_on_twice_the_tokens_until_cfg_splits_them() -> None:
    guided, plain = question(Z_IMAGE), question(Z_IMAGE, guided=False)
    fixed = guided.facts.denoise.eager.fixed_bytes
    one = denoise_bytes(plain, answer(plain))[0] - fixed
    assert denoise_bytes(guided, answer(guided))[0] - fixed == pytest.approx(2 * one, rel=1e-6)
    assert denoise_bytes(guided, answer(guided, layout=Layout(cfg=2)))[0] - fixed == pytest.approx(
        one, rel=1e-6
    )
    in_turn = question(QWEN), question(QWEN, guided=False)
    assert denoise_bytes(in_turn[0], answer(in_turn[0])) == denoise_bytes(in_turn[1], answer(in_turn[1]))


def test_experts_are_all_held_but_visit_one_at_a_time() -> None:
    facts = facts_for(EXPERTS)
    one = facts.component("transformer").bytes("bfloat16")
    single, both = weighed(WAN), weighed(EXPERTS)
    assert both.denoise.weights - single.denoise.weights == one
    moved = {"transformer": "component", "transformer_2": "component"}
    assert (
        weighed(EXPERTS, moved).denoise.weights == weighed(WAN, {"transformer": "component"}).denoise.weights
    )
    assert weighed(EXPERTS, moved).host - weighed(WAN, {"transformer": "component"}).host == one


def test_adapters_live_where_their_weights_live() -> None:
    elements = 300_000_000
    facts = facts_for(QWEN).with_adapters({"transformer": elements})
    assert weighed(facts).denoise.weights - weighed(QWEN).denoise.weights == 2 * elements
    moved = {"transformer": "component"}
    assert weighed(facts, moved).host - weighed(QWEN, moved).host == 2 * elements
    with pytest.raises(KeyError, match="is not one of"):
        facts.with_adapters({"nothing": 1})


def test_adapters_of_streamed_weights_come_with_what_is_outside_the_blocks() -> None:
    facts = facts_for(QWEN).with_adapters({"transformer": 1000})
    streamed = {"transformer": "layerwise"}
    assert weighed(facts, streamed).text == weighed(QWEN, streamed).text
    assert weighed(facts, streamed).denoise.weights - weighed(QWEN, streamed).denoise.weights == 2000


def test_larger_tiles_take_more_memory_up_to_the_whole_picture() -> None:
    problem = question(QWEN, width=2048, height=2048)
    sizes = (*problem.facts.decode.tile_sizes, None)
    peaks = [sum(decode_bytes(problem, answer(problem, tile_size=size))) for size in sizes]
    assert peaks == sorted(peaks)
    assert peaks[-1] > 15 * peaks[0]


def test_a_picture_smaller_than_a_tile_is_decoded_whole() -> None:
    problem = question(QWEN, width=256, height=256)
    whole, tiled = (decode_bytes(problem, answer(problem, tile_size=size)) for size in (None, 256))
    assert whole == tiled


def test_long_clips_in_tiles_are_bound_by_the_frames_that_are_kept() -> None:
    problem = question(WAN, width=1280, height=720, frames=321)
    work, _ = decode_bytes(problem, answer(problem, tile_size=256))
    frames_bytes = 1280 * 720 * 321 * 6
    assert 4 * frames_bytes < work < 6 * frames_bytes


def test_a_reference_picture_adds_as_many_tokens_as_the_picture() -> None:
    plain, edit = question(QWEN), question("Qwen/Qwen-Image-Edit")
    assert edit.facts.denoise.condition_tokens == 4096
    assert denoise_bytes(edit, answer(edit))[0] > 1.9 * denoise_bytes(plain, answer(plain))[0]
