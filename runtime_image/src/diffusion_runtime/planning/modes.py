"""The plan of one GPU count, by mode: manual, auto's ladder, speed, memory, and the bias between the
last two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from diffusion_runtime.planning.evaluate import Weighed
from diffusion_runtime.planning.layouts import LayoutOption, plain_options, sharded_options
from diffusion_runtime.planning.problem import Problem, Slot
from diffusion_runtime.planning.residencies import (
    all_resident,
    encoders_back,
    ladder,
    transformers_resident,
)
from diffusion_runtime.planning.screening import (
    everything,
    front,
    one_placement,
    same_splits,
    unbeaten_layouts,
)

MOST_LOST = 8
"""As many losers of a kind are kept for the plan's explanation."""


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


def _resident(problem: Problem, gpus: int, slot: Slot) -> CountResult:
    """manual and speed: plain resident unless set otherwise, fastest layout; memory rejects nothing."""
    found = one_placement(problem, slot, _layouts(problem, gpus), all_resident(problem), plain=True)
    if not found:
        return CountResult(gpus, slot, None)
    if problem.intent.mode == "manual":
        found = [w for w in found if w.tile_size == problem.intent.vae_tile_size] or found
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
    first = all_resident(problem)
    for rung in ladder(problem):
        if rung.sharded and (forced or not sharded):
            continue
        found = one_placement(problem, slot, sharded if rung.sharded else plain, rung.placement)
        if rung.placement == first and not rung.sharded:
            plain = unbeaten_layouts(problem, slot, plain, rung.placement)  # the others have lost for good
            sharded = same_splits(sharded, plain)
        if rung.sharded:
            back = encoders_back(problem, rung.placement)
            if back != rung.placement:
                found += one_placement(problem, slot, sharded, back)
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
    chosen = min((w for w in found if w.fits), key=lambda w: w.size_order, default=None)
    if chosen is None:
        return CountResult(gpus, slot, None, lost=_nearest(found))
    how = "memory takes the least peak per GPU"
    return CountResult(gpus, slot, chosen, how, _telling(found, chosen))


def _by_bias(problem: Problem, gpus: int, slot: Slot, bias: float) -> CountResult:
    """bias b: the fastest with peak <= min + b x (max - min) over the fitting Pareto front."""
    found = everything(problem, gpus, slot)
    points = front([w for w in found if w.fits])
    if not points:
        return CountResult(gpus, slot, None, lost=_nearest(found))
    chosen = at_bias(points, bias)
    index = 1 + points.index(chosen)
    how = (
        f"bias {bias:g} takes point {index} of {len(points)} on the speed-memory front, the smallest being 1"
    )
    return CountResult(gpus, slot, chosen, how, _telling(found, chosen))


def at_bias(points: list[Weighed], bias: float) -> Weighed:
    """The fastest point of a front (smallest peak first) with peak <= min + bias x (max - min)."""
    least, most = points[0].peak, points[-1].peak
    limit = least + bias * (most - least)
    return [w for w in points if w.peak <= limit][-1]


def _telling(found: list[Weighed], chosen: Weighed) -> tuple[Weighed, ...]:
    """The losers that explain most: the fastest that do not fit, then the fastest and smallest that do."""
    return (
        *_best((w for w in found if not w.fits), lambda w: w.speed_order),
        *_best((w for w in found if w.fits and w is not chosen), lambda w: w.speed_order),
        *_best((w for w in found if w.fits and w is not chosen), lambda w: w.size_order),
    )


def _nearest(found: list[Weighed]) -> tuple[Weighed, ...]:
    """The losers that lack least."""
    return _best(found, lambda w: (w.gpu_shortfall, w.host_shortfall, *w.speed_order))


def _best(candidates: Iterable[Weighed], key: Callable[[Weighed], tuple[object, ...]]) -> tuple[Weighed, ...]:
    """The best of each layout and placement, at most eight."""
    kinds: dict[object, Weighed] = {}
    for candidate in candidates:
        best = kinds.get(candidate.kind)
        if best is None or key(candidate) < key(best):
            kinds[candidate.kind] = candidate
    return tuple(sorted(kinds.values(), key=key)[:MOST_LOST])


def _layouts(problem: Problem, gpus: int) -> tuple[LayoutOption, ...]:
    """Layouts for rungs without planned FSDP: sharded ones when the user asks for FSDP and the transformer
    stays.
    """
    if problem.intent.fsdp is True and gpus > 1 and transformers_resident(problem, all_resident(problem)):
        return sharded_options(problem, gpus)
    return plain_options(problem, gpus)
