"""The cookbook's rules, each restated in our words and asserted on plans. docs/cookbook.md maps them.

What is correct and proven is passed in, so that a later parity run does not change these tests.
"""

from __future__ import annotations

import pytest

from builders.asking import Answers, Modes, Nodes, Plans
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.documents import Plan, Shape, Workload
from diffusion_runtime.planning.facts import LayoutAxis, ModelFacts

GIB = 2**30
EVERY_MODE = ("manual", "auto", "speed", "memory")
Z_IMAGE = "Tongyi-MAI/Z-Image"
SMALL_WAN = "Wan-AI/Wan2.1-T2V-1.3B-Diffusers"
IMAGE_TO_VIDEO = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
LTX = "Lightricks/LTX-2"
SHORT_CLIP = Workload(shapes=(Shape(width=256, height=256, frames=17, steps=10),))
"""So little compute that streaming weights over the host link cannot hide behind it."""


def with_axes(model: str, correct: tuple[LayoutAxis, ...], proven: tuple[LayoutAxis, ...]) -> ModelFacts:
    """A model's facts with these layouts correct and proven."""
    return facts_for(model).model_copy(update={"correct_axes": correct, "proven_axes": proven})


@pytest.fixture
def wan_facts(wan: str) -> ModelFacts:
    """Wan with FSDP and CFG parallel proven, as the cookbook's own runs."""
    return with_axes(wan, ("cfg", "ulysses", "ring", "fsdp"), ("cfg", "fsdp"))


@pytest.fixture
def qwen_facts(qwen: str) -> ModelFacts:
    """Qwen-Image with only CFG parallel proven."""
    return with_axes(qwen, ("cfg", "ulysses", "ring", "tensor", "fsdp"), ("cfg",))


def moved(plan: Plan) -> set[str]:
    """Components that do not stay on the GPU."""
    return {name for name, residency in plan.residency.items() if residency.mode != "resident"}


def test_auto_takes_the_simplest_setting_that_fits(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    found = plan(wan_facts, gpus("H200"))
    assert (found.gpus_per_replica, moved(found), found.layout.fsdp) == (1, set(), False)


def test_fastest_on_one_gpu_is_resident_without_fsdp(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    for wish in ({"mode": "auto"}, {"mode": "speed"}):
        found = plan(wan_facts, gpus("H200"), **wish)
        assert moved(found) == set()
        assert not found.layout.fsdp
        for other in ({"transformer": "component"}, {"text_encoder": "component"}):
            slower = plan(wan_facts, gpus("H200"), residency=other, **wish)
            assert slower.time.per_request_seconds > found.time.per_request_seconds


def test_less_memory_on_one_gpu_comes_from_offload(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts, modes_of: Modes
) -> None:
    resident = plan(wan_facts, gpus("H200"), mode="speed")
    component = plan(wan_facts, gpus("H200"), mode="speed", residency={"transformer": "component"})
    layerwise = plan(wan_facts, gpus("H200"), mode="speed", residency={"transformer": "layerwise"})
    peaks = [p.memory.phases.denoise.weights_bytes for p in (resident, component, layerwise)]
    assert peaks[0] == peaks[1] > peaks[2]
    least = plan(wan_facts, gpus("H200"), mode="memory")
    assert modes_of(least)["transformer"] == "layerwise"
    assert least.memory.peak_per_gpu_bytes < resident.memory.peak_per_gpu_bytes / 2


def test_fsdp_with_cfg_makes_two_gpus_faster_than_offload(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts, modes_of: Modes
) -> None:
    pair = gpus("H200", "H200", free_bytes=[int(29.5 * GIB)] * 2)
    found = plan(wan_facts, pair, gpus_per_replica=2, workload=SHORT_CLIP)
    assert (found.layout.fsdp, found.layout.cfg) == (True, 2)
    assert modes_of(found)["transformer"] == "resident"
    offloaded = plan(wan_facts, pair, gpus_per_replica=2, fsdp=False, workload=SHORT_CLIP)
    assert modes_of(offloaded)["transformer"] != "resident"
    assert found.time.per_request_seconds < offloaded.time.per_request_seconds


def test_sequence_parallel_is_used_when_asked_for(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    pair = gpus("H200", "H200")
    for wish in ({"ulysses": 2}, {"ring": 2}):
        layout = plan(wan_facts, pair, **wish).layout
        assert {axis: getattr(layout, axis) for axis in wish} == wish
        assert layout.cfg == 1


def test_sequence_parallel_shrinks_the_work_of_a_long_video(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts
) -> None:
    eight = gpus(*["H200"] * 8)
    one, four = (plan(wan_facts, eight, ulysses=n, gpus_per_replica=n, cfg_parallel=False) for n in (1, 4))
    work = [p.memory.phases.denoise.activation_bytes for p in (one, four)]
    assert work[1] < work[0] / 3
    assert four.time.per_forward_seconds < one.time.per_forward_seconds / 2


def test_tensor_parallel_only_when_set(plan: Plans, gpus: Nodes, qwen: str) -> None:
    facts = with_axes(qwen, ("cfg", "tensor"), ("cfg", "tensor"))
    for mode in EVERY_MODE:
        for count in (1, 2, 4, 8):
            assert plan(facts, gpus(*["L40S"] * count), mode=mode).layout.tensor == 1
    assert plan(facts, gpus("H200", "H200"), tensor=2).layout.tensor == 2


def test_the_least_free_gpu_decides(plan: Plans, gpus: Nodes, qwen_facts: ModelFacts) -> None:
    free, busy = gpus("H200", "H200"), gpus("H200", "H200", free_bytes=[None, 20 * GIB])
    roomy, tight = (plan(qwen_facts, node, gpus_per_replica=2) for node in (free, busy))
    assert moved(roomy) == set()
    assert "transformer" in moved(tight)
    assert tight.memory.free_per_gpu_bytes == 20 * GIB


def test_a_busy_80_gib_gpu_is_planned_like_a_small_one(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts, modes_of: Modes
) -> None:
    busy = plan(qwen_facts, gpus("A100-80", free_bytes=[24 * GIB]))
    assert modes_of(busy) == modes_of(plan(qwen_facts, gpus("A100-40", free_bytes=[24 * GIB])))
    assert modes_of(plan(qwen_facts, gpus("A100-80"))) != modes_of(busy)


def test_fsdp_never_on_one_gpu(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    for mode in EVERY_MODE:
        for free in (14 * GIB, 24 * GIB, 60 * GIB):
            found = plan(wan_facts, gpus("H200", free_bytes=[free]), mode=mode)
            assert not found.layout.fsdp
            assert not any(fallback.layout.fsdp for fallback in found.fallbacks)


def test_one_small_gpu_is_served_by_offload(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    found = plan(wan_facts, gpus("RTX-4090"))
    assert "transformer" in moved(found)


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_modes_never_override_what_is_set(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts, mode: str, modes_of: Modes
) -> None:
    wish = {"residency": {"vae": "component"}, "fsdp": False, "ulysses": 2, "cfg_parallel": False}
    found = plan(wan_facts, gpus("L40S", "L40S"), mode=mode, **wish)
    assert modes_of(found)["vae"] == "component"
    assert (found.layout.fsdp, found.layout.ulysses, found.layout.cfg) == (False, 2, 1)


def test_auto_is_the_default(plan: Plans, gpus: Nodes, qwen_facts: ModelFacts) -> None:
    assert plan(qwen_facts, gpus("L40S")).mode == "auto"
    assert plan(qwen_facts, gpus("L40S")) == plan(qwen_facts, gpus("L40S"), mode="auto")


def test_manual_plans_nothing_by_itself(plan: Plans, gpus: Nodes, qwen_facts: ModelFacts) -> None:
    found = plan(qwen_facts, gpus("L4", "L4"), mode="manual")
    assert (found.gpus_per_replica, moved(found), found.compile.enabled, found.vae.tiling) == (
        1,
        set(),
        False,
        False,
    )
    set_by_user = plan(qwen_facts, gpus("L4", "L4"), mode="manual", cfg=2, residency={"vae": "component"})
    assert (set_by_user.layout.cfg, moved(set_by_user)) == (2, {"vae"})


def test_auto_keeps_offload_where_fsdp_is_not_proven(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts, modes_of: Modes
) -> None:
    pair = gpus("RTX-5090", "RTX-5090")
    unproven = wan_facts.model_copy(update={"proven_axes": ("cfg",)})
    assert plan(wan_facts, pair, gpus_per_replica=2).layout.fsdp
    found = plan(unproven, pair, gpus_per_replica=2)
    assert not found.layout.fsdp
    assert modes_of(found)["transformer"] != "resident"


def test_speed_stays_resident_and_only_warns(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    for product in ("T4", "L4", "RTX-4090", "L40S", "H200"):
        facts = wan_facts.model_copy(update={"correct_dtypes": ("bfloat16", "float16", "float32")})
        found = plan(facts, gpus(product), mode="speed")
        assert moved(found) == set()
        short = found.memory.peak_per_gpu_bytes > 0.95 * found.memory.free_per_gpu_bytes
        assert short == any("short of GPU memory" in warning for warning in found.warnings)


def test_memory_streams_where_correct_and_moves_whole_elsewhere(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts, modes_of: Modes
) -> None:
    assert modes_of(plan(wan_facts, gpus("H200"), mode="memory"))["transformer"] == "layerwise"
    parts = tuple(
        part.model_copy(update={"correct_residencies": ("resident", "component")})
        for part in wan_facts.components
    )
    whole = wan_facts.model_copy(update={"components": parts})
    assert set(modes_of(plan(whole, gpus("H200"), mode="memory")).values()) == {"component"}


def test_auto_shards_only_where_that_replaces_transformer_offload(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts, modes_of: Modes
) -> None:
    pairs = [gpus("H200", "H200", free_bytes=[gib * GIB] * 2) for gib in range(20, 130, 6)]
    for pair in pairs:
        found = plan(wan_facts, pair, gpus_per_replica=2)
        if found.layout.fsdp:
            without = plan(wan_facts, pair, gpus_per_replica=2, fsdp=False)
            assert modes_of(without)["transformer"] != "resident"
    assert any(plan(wan_facts, pair, gpus_per_replica=2).layout.fsdp for pair in pairs)


def test_auto_looks_at_the_least_free_gpu_before_sharding(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts
) -> None:
    roomy = gpus("H200", "H200", free_bytes=[100 * GIB, 100 * GIB])
    one_busy = gpus("H200", "H200", free_bytes=[100 * GIB, 30 * GIB])
    assert not plan(wan_facts, roomy, gpus_per_replica=2).layout.fsdp
    assert plan(wan_facts, one_busy, gpus_per_replica=2).layout.fsdp


def test_beside_shards_encoders_move_unless_marked_safe(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts, modes_of: Modes
) -> None:
    pair = gpus("H200", "H200", free_bytes=[int(30.9 * GIB)] * 2)
    safe = wan_facts.model_copy(update={"resident_safe_after_fsdp": ("text_encoder",)})
    for facts, mode in ((wan_facts, "component"), (safe, "resident")):
        found = plan(facts, pair, gpus_per_replica=2, compile=True, workload=SHORT_CLIP)
        assert found.layout.fsdp
        assert modes_of(found)["text_encoder"] == mode


def test_auto_adds_cfg_parallel_for_guided_defaults_without_a_policy(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts
) -> None:
    pair, four = gpus("H200", "H200"), gpus(*["H200"] * 4)
    assert plan(qwen_facts, pair).layout.cfg == 2
    assert plan(qwen_facts, pair, workload=Workload(guidance="off")).layout.cfg == 1
    unguided = qwen_facts.model_copy(update={"guided_by_default": False})
    assert plan(unguided, pair).layout.cfg == 1
    assert plan(qwen_facts, four, ulysses=2).layout.cfg == 1


def test_every_declared_kind_of_component_is_placed(plan: Plans, gpus: Nodes, modes_of: Modes) -> None:
    kinds = {part.name: part.kind for part in facts_for(LTX).components}
    assert {"transformer", "textEncoder", "vae", "vocoder", "upsampler"} <= set(kinds.values())
    assert {part.kind for part in facts_for(IMAGE_TO_VIDEO).components} >= {"imageEncoder"}
    for model in (LTX, IMAGE_TO_VIDEO):
        found = modes_of(plan(model, gpus("H200"), mode="memory"))
        names = {part.name for part in facts_for(model).components if part.kind != "transformer"}
        assert {found[name] for name in names} == {"component"}


def test_encoders_are_never_streamed(
    plan: Plans, answer: Answers, gpus: Nodes, wan_facts: ModelFacts
) -> None:
    for mode in EVERY_MODE:
        for free in (14 * GIB, 40 * GIB):
            found = plan(wan_facts, gpus("H200", free_bytes=[free]), mode=mode)
            assert found.residency["text_encoder"].mode in ("resident", "component")
    with pytest.raises(ValueError, match="not validated for this textEncoder"):
        answer(wan_facts, gpus("H200"), residency={"text_encoder": "layerwise"})


def test_the_bias_fills_the_gap_between_the_presets(plan: Plans, gpus: Nodes, qwen_facts: ModelFacts) -> None:
    points = [plan(qwen_facts, gpus("H200"), bias=step / 20) for step in range(21)]
    peaks = [p.memory.peak_per_gpu_bytes for p in points]
    seconds = [p.time.per_request_seconds for p in points]
    assert peaks == sorted(peaks)
    assert seconds == sorted(seconds, reverse=True)
    assert len(set(peaks)) >= 8
    assert any(p.residency["transformer"].resident_blocks for p in points)


def test_example_of_a_guided_model_on_two_gpus_in_auto(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts
) -> None:
    found = plan(qwen_facts, gpus("H200", "H200"), gpus_per_replica=2, mode="auto")
    assert (found.layout.cfg, found.layout.fsdp, moved(found)) == (2, False, set())


def test_example_of_the_small_video_model_in_memory_mode(plan: Plans, gpus: Nodes, modes_of: Modes) -> None:
    found = plan(SMALL_WAN, gpus("L4"), mode="memory")
    assert found.gpus_per_replica == 1
    assert modes_of(found)["transformer"] != "resident"
    # The text encoder sets the peak, so streaming this small transformer would not lower it.
    assert found.memory.phases.text.weights_bytes >= facts_for(SMALL_WAN).component("text_encoder").bytes(
        "bfloat16"
    )
    streamed = plan(SMALL_WAN, gpus("L4"), mode="memory", residency={"transformer": "layerwise"})
    assert found.memory.peak_per_gpu_bytes <= streamed.memory.peak_per_gpu_bytes


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_refused_fsdp_stays_off(plan: Plans, gpus: Nodes, wan_facts: ModelFacts, mode: str) -> None:
    for product in ("RTX-5090", "H200"):
        found = plan(wan_facts, gpus(product, product), gpus_per_replica=2, mode=mode, fsdp=False)
        assert not found.layout.fsdp
        assert not any(fallback.layout.fsdp for fallback in found.fallbacks)


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_refused_cfg_parallel_stays_off(plan: Plans, gpus: Nodes, wan_facts: ModelFacts, mode: str) -> None:
    found = plan(wan_facts, gpus("H200", "H200"), mode=mode, cfg_parallel=False)
    assert found.layout.cfg == 1
    assert all(fallback.layout.cfg == 1 for fallback in found.fallbacks)


def test_resident_is_fastest_where_it_fits(plan: Plans, gpus: Nodes, qwen_facts: ModelFacts) -> None:
    resident = plan(qwen_facts, gpus("H200"), mode="manual")
    for component in qwen_facts.components:
        for mode in set(component.correct_residencies) - {"resident"}:
            other = plan(qwen_facts, gpus("H200"), mode="manual", residency={component.name: mode})
            assert other.time.per_request_seconds >= resident.time.per_request_seconds


def test_component_offload_trades_time_for_memory(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    resident = plan(wan_facts, gpus("H200"), mode="manual")
    moved_away = plan(wan_facts, gpus("H200"), mode="manual", residency={"text_encoder": "component"})
    saved = resident.memory.phases.denoise.weights_bytes - moved_away.memory.phases.denoise.weights_bytes
    encoder = wan_facts.component("text_encoder")
    assert saved == encoder.bytes("bfloat16")
    assert moved_away.time.per_request_seconds > resident.time.per_request_seconds
    assert moved_away.memory.host_bytes > resident.memory.host_bytes


def test_streaming_goes_lower_than_moving_whole(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    whole, streamed = (
        plan(
            wan_facts,
            gpus("H200"),
            mode="manual",
            residency={"transformer": mode, "text_encoder": "component"},
        )
        for mode in ("component", "layerwise")
    )
    assert streamed.memory.phases.denoise.weights_bytes < whole.memory.phases.denoise.weights_bytes / 4


def test_streaming_costs_time_where_the_link_is_slower_than_the_gpu(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts
) -> None:
    resident, streamed = (
        plan(qwen_facts, gpus("H200"), mode="manual", residency={"transformer": mode})
        for mode in ("resident", "layerwise")
    )
    assert streamed.time.per_step_seconds > 2 * resident.time.per_step_seconds


def test_shards_are_a_part_of_the_weights_and_are_gathered(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts
) -> None:
    four = gpus(*["H200"] * 4)
    whole = plan(wan_facts, four, mode="manual", gpus_per_replica=4, ulysses=4)
    shards = plan(wan_facts, four, mode="manual", gpus_per_replica=4, ulysses=4, fsdp=True)
    assert shards.memory.phases.text.weights_bytes < whole.memory.phases.text.weights_bytes / 1.5
    assert shards.memory.phases.denoise.weights_bytes > shards.memory.phases.text.weights_bytes
    assert shards.time.per_forward_seconds >= whole.time.per_forward_seconds


def test_fsdp_costs_less_than_transformer_offload_for_video_from_pictures(
    plan: Plans, gpus: Nodes, modes_of: Modes
) -> None:
    facts = with_axes(IMAGE_TO_VIDEO, ("cfg", "fsdp"), ("cfg", "fsdp"))
    pair = gpus("H200", "H200", free_bytes=[int(31.5 * GIB)] * 2)
    sharded = plan(facts, pair, gpus_per_replica=2, workload=SHORT_CLIP)
    assert sharded.layout.fsdp
    assert modes_of(sharded)["image_encoder"] == "component"
    offloaded = plan(facts, pair, gpus_per_replica=2, fsdp=False, workload=SHORT_CLIP)
    assert sharded.time.per_request_seconds < offloaded.time.per_request_seconds


def test_coarser_shards_gather_more_at_once_with_fewer_wrappers(
    plan: Plans, gpus: Nodes, wan_facts: ModelFacts
) -> None:
    pair = gpus("H200", "H200")
    fine, coarse = (
        plan(wan_facts, pair, mode="manual", cfg=2, fsdp=True, compile=True, fsdp_blocks_per_unit=unit)
        for unit in (1, 4)
    )
    assert coarse.layout.fsdp_blocks_per_unit == 4
    assert coarse.memory.phases.denoise.weights_bytes > fine.memory.phases.denoise.weights_bytes
    assert coarse.time.per_forward_seconds < fine.time.per_forward_seconds


def test_one_block_is_gathered_at_a_time_by_default(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    found = plan(wan_facts, gpus("RTX-5090", "RTX-5090"), gpus_per_replica=2)
    assert (found.layout.fsdp, found.layout.fsdp_blocks_per_unit) == (True, 1)


def test_cfg_parallel_halves_a_guided_step(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    pair = gpus("H200", "H200")
    one = plan(wan_facts, pair, gpus_per_replica=1)
    two = plan(wan_facts, pair, gpus_per_replica=2)
    assert two.layout.cfg == 2
    assert 1.8 < one.time.per_step_seconds / two.time.per_step_seconds < 2.0
    assert two.time.per_forward_seconds == pytest.approx(one.time.per_forward_seconds, rel=0.01)


@pytest.mark.parametrize("model", ["Qwen/Qwen-Image", "Wan-AI/Wan2.1-T2V-14B-Diffusers"])
def test_cfg_parallel_beats_sequence_parallel_on_two_gpus(plan: Plans, gpus: Nodes, model: str) -> None:
    pair = gpus("H200", "H200")
    cfg = plan(model, pair, gpus_per_replica=2, cfg=2)
    for wish in ({"ulysses": 2}, {"ring": 2}):
        other = plan(model, pair, gpus_per_replica=2, cfg=1, **wish)
        assert cfg.time.per_request_seconds < other.time.per_request_seconds
    facts = with_axes(model, ("cfg", "ulysses", "ring"), ("cfg", "ulysses", "ring"))
    assert plan(facts, pair, gpus_per_replica=2).layout.cfg == 2


def test_tensor_parallel_is_slower_than_cfg_parallel(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts
) -> None:
    pair = gpus("H200", "H200")
    tensor, cfg = (plan(qwen_facts, pair, gpus_per_replica=2, **wish) for wish in ({"tensor": 2}, {"cfg": 2}))
    assert tensor.time.per_request_seconds > cfg.time.per_request_seconds


@pytest.mark.parametrize("mode", EVERY_MODE)
def test_z_image_on_one_gpu_stays_resident(plan: Plans, gpus: Nodes, mode: str) -> None:
    facts = with_axes(Z_IMAGE, ("cfg", "fsdp"), ())
    for count in (1, 2, 8):
        found = plan(facts, gpus(*["L40S"] * count), mode=mode)
        assert (found.gpus_per_replica, found.layout.fsdp) == (1, False)
        assert mode == "memory" or moved(found) == set()


@pytest.mark.parametrize("mode", EVERY_MODE)
@pytest.mark.parametrize("product", ["H200", "L40S", "RTX-4090"])
def test_qwen_image_is_not_sharded_by_default(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts, mode: str, product: str
) -> None:
    for count in (1, 2, 4):
        assert not plan(qwen_facts, gpus(*[product] * count), mode=mode).layout.fsdp


def test_a_measured_layout_counts_as_proven_on_that_product(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts
) -> None:
    warned = plan(qwen_facts, gpus("L40S", "L40S"), fsdp=True)
    assert any("not proven" in warning for warning in warned.warnings)
    proven = qwen_facts.model_copy(update={"proven_axes": ("cfg", "fsdp")})
    assert plan(proven, gpus("L40S", "L40S"), gpus_per_replica=2).layout.fsdp


def test_sharded_video_still_moves_its_encoders(plan: Plans, gpus: Nodes, wan_facts: ModelFacts) -> None:
    found = plan(wan_facts, gpus("RTX-5090", "RTX-5090"), gpus_per_replica=2)
    assert found.layout.fsdp
    assert "text_encoder" in moved(found)


def test_what_is_not_correct_is_never_offered(answer: Answers, plan: Plans, gpus: Nodes, wan: str) -> None:
    facts = with_axes(wan, ("cfg",), ("cfg",))
    for mode in EVERY_MODE:
        assert not plan(facts, gpus("RTX-5090", "RTX-5090"), mode=mode).layout.fsdp
    with pytest.raises(ValueError, match="not validated for wan"):
        answer(facts, gpus("H200", "H200"), fsdp=True)


def test_moving_components_is_never_faster(plan: Plans, gpus: Nodes, qwen_facts: ModelFacts) -> None:
    whole = plan(qwen_facts, gpus("H200"), mode="manual")
    moves = {"text_encoder": "component", "transformer": "component", "vae": "component"}
    away = plan(qwen_facts, gpus("H200"), mode="manual", residency=moves)
    assert away.time.per_request_seconds > whole.time.per_request_seconds
    assert away.memory.peak_per_gpu_bytes < whole.memory.peak_per_gpu_bytes


def test_a_plan_says_that_its_numbers_are_not_measured(
    plan: Plans, gpus: Nodes, qwen_facts: ModelFacts
) -> None:
    assert plan(qwen_facts, gpus("H200", "H200")).source == "formula"
