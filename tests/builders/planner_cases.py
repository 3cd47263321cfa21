"""Generated questions to the planner, and what must hold for every answer. Shared by the small and the full
property suites.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random
from typing import Any

from hypothesis import strategies as st

from diffusion_runtime.models.catalog import facts_for, known_models
from diffusion_runtime.planning.devices import GpuNode, device_from_product
from diffusion_runtime.planning.documents import EXECUTION_FIELDS, NoPlan, Plan, Shape, Workload
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.search import make_plan
from diffusion_runtime.planning.settled import forget

GIB = 2**30
PRODUCTS = ("T4", "L4", "A10", "A100-40", "A100-80", "L40S", "RTX-4090", "RTX-5090", "H100", "H200", "B200")
Answer = Plan | NoPlan | BadRequest


@dataclass(frozen=True)
class Case:
    """One question. `free` is bytes per GPU; one node. `share` of what is taken is freed for comparisons."""

    model: str
    product: str
    free: tuple[int, ...]
    host: int | None
    workload: Workload
    intent: Intent
    replicas: int
    share: float

    @property
    def facts(self) -> ModelFacts:
        """The model's facts."""
        return facts_for(self.model)

    def ask(self, **wishes: Any) -> Answer:
        """The planner's answer, with some of the intent changed."""
        intent = Intent.model_validate(self.intent.model_dump() | wishes)
        gpus = tuple(device_from_product(self.product, free_bytes=free) for free in self.free)
        node = GpuNode(name="node", gpus=gpus, host_free_bytes=self.host)
        try:
            return make_plan(self.facts, self.workload, intent, [node], self.replicas)
        except BadRequest as refusal:
            return refusal

    def with_more(self) -> Case:
        """The same question with more free on every GPU."""
        total = device_from_product(self.product).total_bytes
        return replace(self, free=tuple(free + int((total - free) * self.share) for free in self.free))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Any model, GPUs more or less free, any mode or bias, and now and then explicit settings.

    Drawn from a seeded random source, because evenly spread cases find more here than small ones.
    """
    return case_of(draw(st.randoms(use_true_random=True)))


def case_of(random: Random) -> Case:
    """One case of a random source."""
    model = random.choice(known_models())
    facts = facts_for(model)
    product = random.choice(PRODUCTS)
    total = device_from_product(product).total_bytes
    count = random.randint(1, 8)
    weights = sum(component.bytes(component.default_dtype) for component in facts.components)
    # Around the model's own size, where most is decided; now and then anything, or all.
    most = min(total, int(weights * random.choice((0.7, 1.2, 1.8))))
    least = most * random.random()
    free = random.choice(
        (
            tuple(int(least + (most - least) * random.random()) for _ in range(count)),
            (int(least),) * count,
            tuple(int(total * random.random()) for _ in range(count)),
            (total,) * count,
        )
    )
    guidance = random.choice(("auto", "auto", "on", "off"))
    drawn = tuple(shape_of(random, facts) for _ in range(random.choice((0, 0, 1, 2))))
    return Case(
        model=model,
        product=product,
        free=free,
        host=random.choice((None, random.randint(0, 512) * GIB)),
        workload=Workload.model_validate({"shapes": drawn, "guidance": guidance}),
        intent=intent_of(random, facts),
        replicas=random.randint(1, 3),
        share=random.choice((random.random() / 10, random.random())),
    )


def shape_of(random: Random, facts: ModelFacts) -> Shape:
    """A size that the family can draw, at most 1,536 pixels and 97 frames."""
    step, every = facts.sizes.multiple, facts.sizes.frame_multiple
    width, height = (random.randint(-(-64 // step), 1536 // step) * step for _ in range(2))
    frames = 1 + every * random.randint(0, 96 // every) if every else 1
    return Shape(width=width, height=height, frames=frames, steps=random.randint(1, 60))


def intent_of(random: Random, facts: ModelFacts) -> Intent:
    """A mode or a bias; in a third of the cases with explicit settings."""
    wish: dict[str, Any] = {
        "mode": random.choice(("manual", "auto", "auto", "speed", "memory")),
        "objective": random.choice(("balanced", "latency", "throughput")),
        "bias": random.choice((None, None, random.random(), random.choice((0.0, 1.0)))),
        "memory_reserve_fraction": random.choice((None, random.random() / 2)),
    }
    if random.random() < 0.35:
        wish["gpus_per_replica"] = random.choice((None, 1, 2, 2, 4, 8, random.randint(1, 8)))
        wish["fsdp"] = random.choice((None, None, True, False))
        wish["cfg_parallel"] = random.choice((None, None, None, True, False))
        wish["ulysses"] = random.choice((None, None, None, 1, 2))
        wish["ring"] = random.choice((None, None, None, 1, 2))
        wish["compile"] = random.choice((None, True, False))
        wish["vae_tile_size"] = random.choice((None, None, 256, 512))
        wish["residency"] = {
            component.name: random.choice(component.correct_residencies)
            for component in facts.components
            if random.random() < 0.25
        }
    return Intent.model_validate(wish)


def check(case: Case, tally: Counter[str]) -> None:
    """Everything that must hold for one case."""
    answer = case.ask()
    tally[type(answer).__name__] += 1
    if isinstance(answer, BadRequest):
        assert answer.field
        assert str(answer).endswith(".")
        return
    forget()
    assert case.ask().to_json() == answer.to_json(), "not deterministic"  # type: ignore[union-attr]
    if isinstance(answer, NoPlan):
        assert answer.message
        assert len(answer.rejected) <= 8
        return
    assert Plan.model_validate_json(answer.to_json()) == answer
    check_fits(case, answer)
    check_explicit(case, answer)
    check_fallbacks(case, answer)
    check_more_memory(case, answer, tally)
    if case.intent.bias is not None:
        check_bias(case, answer, tally)


def check_fits(case: Case, plan: Plan) -> None:
    """auto, memory and bias never exceed the memory that they claim to fit, on the GPU and on the host."""
    intent, memory = case.intent, plan.memory
    least = sorted(case.free, reverse=True)[plan.gpus_per_replica * 1 - 1]
    assert memory.free_per_gpu_bytes <= least
    for phase in ("load", "text", "denoise", "decode"):
        part = getattr(memory.phases, phase)
        total = part.weights_bytes + part.activation_bytes + part.gap_bytes + memory.context_bytes
        assert total <= memory.peak_per_gpu_bytes
    if intent.bias is None and intent.mode in ("manual", "speed"):
        short = memory.peak_per_gpu_bytes > usable(memory.free_per_gpu_bytes, intent)
        assert short == any("short of GPU memory" in warning for warning in plan.warnings)
        return
    assert memory.peak_per_gpu_bytes <= usable(memory.free_per_gpu_bytes, intent)
    offloaded = any(r.mode != "resident" for r in plan.residency.values())
    assert case.host is None or not offloaded or memory.host_bytes <= case.host


def usable(free: int, intent: Intent) -> int:
    """Free bytes less the reserve."""
    fraction = 0.05 if intent.memory_reserve_fraction is None else intent.memory_reserve_fraction
    return int(free * (1 - fraction))


def check_explicit(case: Case, plan: Plan) -> None:
    """What was set stands in the plan unchanged, and in every fallback."""
    intent = case.intent
    for document in (plan, *plan.fallbacks):
        layout = document.layout
        assert layout.ranks == document.gpus_per_replica
        assert intent.gpus_per_replica in (None, document.gpus_per_replica)
        assert intent.fsdp in (None, layout.fsdp)
        assert intent.cfg_parallel in (None, layout.cfg == 2)
        assert intent.ulysses in (None, layout.ulysses)
        assert intent.ring in (None, layout.ring)
        assert intent.compile in (None, document.compile.enabled)
        assert intent.vae_tile_size in (None, document.vae.tile_size)
        assert layout.tensor == 1
        for name, mode in intent.residency.items():
            assert document.residency[name].mode == mode
        if layout.fsdp:
            assert document.gpus_per_replica > 1
        for component in case.facts.components:
            if component.kind != "transformer":
                assert document.residency[component.name].mode != "layerwise"


def check_fallbacks(case: Case, plan: Plan) -> None:
    """At most four, each peaks lower than the one before."""
    peaks = [plan.memory.peak_per_gpu_bytes, *(f.peak_per_gpu_bytes for f in plan.fallbacks)]
    assert len(plan.fallbacks) <= 4
    assert all(later < earlier for earlier, later in pairwise(peaks))
    assert {f.gpus_per_replica for f in plan.fallbacks} <= {plan.gpus_per_replica}


def check_more_memory(case: Case, plan: Plan, tally: Counter[str]) -> None:
    """At the same count, more free memory never gives a slower plan or a later rung, nor loses the plan."""
    fixed = {"gpus_per_replica": plan.gpus_per_replica}
    before, after = case.ask(**fixed), case.with_more().ask(**fixed)
    if not isinstance(before, Plan):
        return  # unproven layouts may fill an explicit count; the count itself was still allowed
    assert isinstance(after, Plan), "more free memory lost the plan"
    tally["more memory"] += 1
    speedy = case.intent.bias is not None or case.intent.mode == "speed"
    if speedy:
        assert after.time.per_request_seconds <= before.time.per_request_seconds
    elif case.intent.mode == "auto" and not case.intent.residency:
        assert rung(after) <= rung(before)
    check_hash(before, after, tally)


def check_hash(one: Plan, other: Plan, tally: Counter[str]) -> None:
    """Free bytes and predictions are no part of the hash; what an engine executes is all of it."""
    same = all(getattr(one, name) == getattr(other, name) for name in EXECUTION_FIELDS)
    same = same and [f.hash for f in one.fallbacks] == [f.hash for f in other.fallbacks]
    tally["same execution" if same else "other execution"] += 1
    assert (one.hash == other.hash) == same


def rung(plan: Plan) -> int:
    """Step of auto's ladder, from 1 (all resident) to 6 (streamed)."""
    kinds = {name: residency.mode for name, residency in plan.residency.items()}
    transformers = {c.name for c in facts_for(plan.model.name).components if c.kind == "transformer"}
    encoders = {
        c.name for c in facts_for(plan.model.name).components if c.kind in ("textEncoder", "imageEncoder")
    }
    held = {kinds[name] for name in transformers}
    if "layerwise" in held:
        return 6
    if "component" in held:
        return 5
    if plan.layout.fsdp:
        return 4
    moved = {name for name, mode in kinds.items() if mode == "component"}
    if moved - encoders:
        return 3
    return 2 if moved else 1


def check_bias(case: Case, plan: Plan, tally: Counter[str]) -> None:
    """A larger bias at the same count: peak never falls, time never rises."""
    bias = case.intent.bias or 0.0
    fixed = {"gpus_per_replica": plan.gpus_per_replica}
    less, more = case.ask(**fixed), case.ask(**fixed, bias=bias + (1 - bias) * case.share)
    if isinstance(less, Plan):
        assert isinstance(more, Plan)
        tally["bias"] += 1
        assert less.memory.peak_per_gpu_bytes <= more.memory.peak_per_gpu_bytes
        assert less.time.per_request_seconds >= more.time.per_request_seconds
