"""What sets the pace: launches, compute, the host link, the peer link. Rules restated on predicted times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.devices import device_from_product
from diffusion_runtime.planning.documents import Layout, Shape
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.problem import Choice, Problem
from diffusion_runtime.planning.time_model import decode_seconds, forward_seconds, predict_times
from measured.cells import one_gpu

QWEN = "Qwen/Qwen-Image"


def question(model: str, gpu: str = "H200", **shape: int) -> Problem:
    facts = facts_for(model)
    asked = Shape.model_validate(facts.default_shape.to_dict() | shape)
    dtype = dict.fromkeys(facts.component_names, "bfloat16")
    return Problem(facts, (asked,), facts.guided_by_default, Intent(), dtype, device_from_product(gpu))


def forward(problem: Problem, **changes: Any) -> float:
    return forward_seconds(problem, chosen(problem, **changes), problem.shapes[0])


def chosen(problem: Problem, streamed: bool = False, **changes: Any) -> Choice:
    layout = changes.pop("layout", Layout())
    choice = replace(one_gpu(problem.facts), layout=layout, gpus=layout.ranks, **changes)
    mode = "layerwise" if streamed else "resident"
    placement = tuple((n, mode if n == "transformer" else "resident") for n, _ in choice.residency)
    return replace(choice, residency=placement)


def test_small_pictures_are_launch_bound_only_eagerly() -> None:
    small = question(QWEN, width=512, height=512), question(QWEN, width=256, height=256)
    assert forward(small[0]) == pytest.approx(forward(small[1]), rel=0.01)
    assert forward(small[0], compiled=True) > 2 * forward(small[1], compiled=True)
    assert forward(small[0], compiled=True) < 0.5 * forward(small[0])


def test_eager_ulysses_gains_nothing_for_pictures_and_compiled_does() -> None:
    problem = question(QWEN)
    split = Layout(ulysses=2)
    assert forward(problem, layout=split) > 0.95 * forward(problem)
    assert forward(problem, layout=split, compiled=True) < 0.7 * forward(problem, compiled=True)


def test_eager_ulysses_gains_for_clips() -> None:
    problem = question("Wan-AI/Wan2.1-T2V-14B-Diffusers")
    assert forward(problem, layout=Layout(ulysses=2)) < 0.6 * forward(problem)


def test_streaming_costs_the_host_link_or_a_twentieth_where_compute_hides_it() -> None:
    picture, clip = question(QWEN), question("Wan-AI/Wan2.1-T2V-14B-Diffusers")
    floor = 60 * 339_831_296 * 2 / 55.3e9
    assert forward(picture, streamed=True) == pytest.approx(1.09 * floor, rel=0.01)
    assert forward(clip, streamed=True) == pytest.approx(1.05 * forward(clip))


def test_resident_blocks_shorten_streaming_in_proportion_until_compute_sets_the_pace() -> None:
    problem = question(QWEN)
    none, half, most = (forward(problem, streamed=True, resident_blocks=n) for n in (0, 30, 55))
    assert half == pytest.approx(none / 2, rel=0.01)
    assert most == pytest.approx(forward(problem) * (1 + 0.05 * 5 / 60))


def test_fsdp_hides_its_gathers_compiled_and_where_compute_is_long() -> None:
    sharded = Layout(cfg=2, fsdp=True)
    picture, clip = question(QWEN), question("Wan-AI/Wan2.1-T2V-14B-Diffusers")
    gather = 20_430_401_088 / 275e9
    assert forward(picture, layout=sharded) - forward(picture) == pytest.approx(gather, rel=0.05)
    assert forward(picture, layout=sharded, compiled=True) < 1.1 * forward(picture, compiled=True)
    assert forward(clip, layout=sharded) < 1.01 * forward(clip)


def test_coarser_units_have_fewer_wrappers() -> None:
    problem = question(QWEN)
    fine, coarse = (
        forward(problem, layout=Layout(cfg=2, fsdp=True, fsdp_blocks_per_unit=n), compiled=True)
        for n in (1, 4)
    )
    assert fine - coarse == pytest.approx(45 * 0.0002)


def test_a_step_of_batched_passes_is_one_forward() -> None:
    problem = question("Tongyi-MAI/Z-Image")
    times = predict_times(problem, chosen(problem))
    assert times.step == times.forward
    in_turn = question(QWEN)
    alone = predict_times(in_turn, chosen(in_turn))
    assert alone.step == 2 * alone.forward


def test_experts_do_not_run_together() -> None:
    one, two = (question(f"Wan-AI/{m}") for m in ("Wan2.1-T2V-14B-Diffusers", "Wan2.2-T2V-A14B-Diffusers"))
    same = {"width": 832, "height": 480}
    assert forward(question(two.facts.model.name, **same)) == forward(question(one.facts.model.name, **same))


def test_larger_tiles_are_faster_where_launches_set_the_pace() -> None:
    problem = question(QWEN, width=2048, height=2048)
    sizes = (*problem.facts.decode.tile_sizes, None)
    seconds = [decode_seconds(problem, chosen(problem, tile_size=s), problem.shapes[0]) for s in sizes]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[0] > 1.8 * seconds[1]


def test_slower_cards_are_slower_in_proportion_to_their_rates() -> None:
    fast, slow = (
        question(QWEN, "H200", width=2048, height=2048),
        question(QWEN, "A100-80", width=2048, height=2048),
    )
    ratio = forward(slow, compiled=True) / forward(fast, compiled=True)
    assert 2.3 < ratio < 3.3
