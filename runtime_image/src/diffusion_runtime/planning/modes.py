"""The plan of one GPU count, by mode: manual, auto's ladder, speed, memory, and the bias between the
last two.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_runtime.planning.documents import Layout
from diffusion_runtime.planning.evaluate import Weighed, weigh_all
from diffusion_runtime.planning.layouts import LayoutOption, plain_options, sharded_options
from diffusion_runtime.planning.problem import Problem, Slot
from diffusion_runtime.planning.residencies import (
    all_resident,
    combinations,
    encoders_back,
    ladder,
    transformers_resident,
)


@dataclass(frozen=True)
class CountResult:
    """What one GPU count offers: the chosen candidate (if any), how it came about, and what lost."""

    gpus: int
    slot: Slot
    chosen: Weighed | None
    how: str = ""
    lost: tuple[Weighed, ...] = ()

    @property
    def has_layout(self) -> bool:
        """Whether any layout exists for this count at all."""
        return self.chosen is not None or bool(self.lost)


def plan_count(problem: Problem, gpus: int, slot: Slot) -> CountResult:
    """Apply the mode's rule to one GPU count (design: rules per mode)."""
    intent = problem.intent
    if intent.bias is not None:
        return _by_bias(problem, gpus, slot, intent.bias)
    if intent.mode == "auto":
        return _by_ladder(problem, gpus, slot)
    if intent.mode == "memory":
        return _by_memory(problem, gpus, slot)
    return _resident(problem, gpus, slot)


def everything(problem: Problem, gpus: int, slot: Slot, like: Layout | None = None) -> list[Weighed]:
    """Every candidate of one GPU count: layouts with and without FSDP, every allowed placement.

    `like` narrows the layouts to one split of the work, with and without FSDP.
    """
    found: list[Weighed] = []
    if problem.intent.fsdp is not True or gpus == 1:
        plain = _alike(plain_options(problem, gpus), like)
        for placement in combinations(problem, sharded=False):
            found += weigh_all(problem, slot, plain, placement)
    sharded = _alike(sharded_options(problem, gpus), like)
    if sharded:
        for placement in combinations(problem, sharded=True):
            found += weigh_all(problem, slot, sharded, placement)
    return found


def _resident(problem: Problem, gpus: int, slot: Slot) -> CountResult:
    """manual and speed: plain resident unless set otherwise, fastest layout; memory rejects nothing."""
    found = weigh_all(problem, slot, _layouts(problem, gpus), all_resident(problem))
    if not found:
        return CountResult(gpus, slot, None)
    if problem.intent.mode == "manual":
        found = [w for w in found if w.choice.tile_size == problem.intent.vae_tile_size] or found
    chosen = min(found, key=lambda w: w.speed_order)
    how = (
        "manual keeps everything resident that was not set otherwise"
        if problem.intent.mode == "manual"
        else "speed keeps everything resident that was not set otherwise and takes the fastest layout"
    )
    return CountResult(gpus, slot, chosen, how, tuple(w for w in found if w is not chosen))


def _by_ladder(problem: Problem, gpus: int, slot: Slot) -> CountResult:
    """auto: the first rung on which something fits; the fastest there."""
    lost: list[Weighed] = []
    plain, sharded = _layouts(problem, gpus), sharded_options(problem, gpus)
    forced = problem.intent.fsdp is True and gpus > 1
    for rung in ladder(problem):
        if rung.sharded and (forced or not sharded):
            continue
        found = weigh_all(problem, slot, sharded if rung.sharded else plain, rung.placement)
        if rung.sharded:
            back = encoders_back(problem, rung.placement)
            if back != rung.placement:
                found += weigh_all(problem, slot, sharded, back)
        fitting = [w for w in found if w.fits]
        if fitting:
            chosen = min(fitting, key=lambda w: w.speed_order)
            lost += [w for w in found if w is not chosen]
            return CountResult(gpus, slot, chosen, rung.title, tuple(lost))
        lost += found
    return CountResult(gpus, slot, None, lost=tuple(lost))


def _by_memory(problem: Problem, gpus: int, slot: Slot) -> CountResult:
    """memory: least peak, ties by time."""
    found = everything(problem, gpus, slot)
    fitting = [w for w in found if w.fits]
    if not fitting:
        return CountResult(gpus, slot, None, lost=tuple(found))
    chosen = min(fitting, key=lambda w: w.size_order)
    return CountResult(
        gpus, slot, chosen, "the least memory per GPU", tuple(w for w in found if w is not chosen)
    )


def _by_bias(problem: Problem, gpus: int, slot: Slot, bias: float) -> CountResult:
    """bias b: the fastest with peak <= min + b x (max - min) over the fitting Pareto front."""
    found = everything(problem, gpus, slot)
    front = pareto([w for w in found if w.fits])
    if not front:
        return CountResult(gpus, slot, None, lost=tuple(found))
    least, most = front[0].peak, front[-1].peak
    limit = least + bias * (most - least)
    chosen = [w for w in front if w.peak <= limit][-1]
    how = f"bias {bias:g}: the fastest of {len(front)} points on the speed-memory front within its share"
    return CountResult(gpus, slot, chosen, how, tuple(w for w in found if w is not chosen))


def pareto(candidates: list[Weighed]) -> list[Weighed]:
    """Candidates that nothing beats in both peak and time, smallest peak first."""
    front: list[Weighed] = []
    for candidate in sorted(candidates, key=lambda w: w.size_order):
        if not front or candidate.times.request < front[-1].times.request:
            front.append(candidate)
    return front


def _alike(options: tuple[LayoutOption, ...], like: Layout | None) -> tuple[LayoutOption, ...]:
    if like is None:
        return options
    return tuple(o for o in options if o.layout.model_copy(update={"fsdp": like.fsdp}) == like)


def _layouts(problem: Problem, gpus: int) -> tuple[LayoutOption, ...]:
    """Layouts for rungs without planned FSDP: sharded ones when the user asks for FSDP and the transformer
    stays.
    """
    if problem.intent.fsdp is True and gpus > 1 and transformers_resident(problem, all_resident(problem)):
        return sharded_options(problem, gpus)
    return plain_options(problem, gpus)
