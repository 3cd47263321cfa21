"""Weighs candidates: bytes, seconds, does it fit.

A candidate is weighed exactly by the memory and time models, or screened: its peak and seconds are sums of
what its parts were weighed at (see `screening`), and the phases are only worked out when somebody asks.
A calibration of the very same candidate replaces what the models say.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property

from diffusion_runtime.planning.calibrations import PHASES, Calibration, layout_key
from diffusion_runtime.planning.documents import Shape
from diffusion_runtime.planning.layouts import LayoutOption
from diffusion_runtime.planning.memory_model import Footprint, Phase, footprint
from diffusion_runtime.planning.problem import Choice, Problem, Slot
from diffusion_runtime.planning.residencies import Placement
from diffusion_runtime.planning.time_model import Times, predict_times


@dataclass(eq=False)
class Weighed:
    """One candidate with what it costs, against the room of its slot. Bytes and seconds."""

    problem: Problem
    slot: Slot
    option: LayoutOption
    placement: Placement
    tile_size: int | None
    resident_blocks: int
    peak: int
    host: int
    seconds: float
    worst_phase: str

    @cached_property
    def choice(self) -> Choice:
        """What an engine would do."""
        return _choice(self.problem, self.option, self.placement, self.tile_size, self.resident_blocks)

    @property
    def gpus(self) -> int:
        """GPUs per replica."""
        return self.option.ranks

    @cached_property
    def memory(self) -> Footprint:
        """All phases."""
        return self._exactly.memory

    @cached_property
    def times(self) -> Times:
        """Forward, step and request."""
        return self._exactly.times

    @cached_property
    def _exactly(self) -> Weighed:
        return weigh(
            self.problem, self.slot, self.option, self.placement, self.tile_size, self.resident_blocks
        )

    @property
    def calibration(self) -> Calibration | None:
        """The measurement behind this candidate's seconds or bytes, if there is one."""
        return _calibration(self.problem, self.choice)

    @property
    def gpu_shortfall(self) -> int:
        """Bytes per GPU that are missing; 0 when it fits."""
        return max(0, self.peak - self.slot.usable_bytes)

    @property
    def host_shortfall(self) -> int:
        """Host bytes that are missing; 0 when they fit or are not known, or when nothing is kept on the
        host.
        """
        if self.slot.host_bytes is None or self.host <= self.slot.host_bytes:
            return 0
        if all(mode == "resident" for _, mode in self.placement):
            return 0
        return self.host - self.slot.host_bytes

    @property
    def fits(self) -> bool:
        """Whether GPU and host memory suffice."""
        return self.peak <= self.slot.usable_bytes and not self.host_shortfall

    @property
    def name_order(self) -> tuple[object, ...]:
        """Decides ties the same way every time: layout, then placement."""
        layout = self.option.layout
        return (layout.fsdp, -layout.cfg, layout.tensor, layout.ring, self.placement, -self.resident_blocks)

    @property
    def speed_order(self) -> tuple[object, ...]:
        """Sort key: fastest first, then smallest."""
        return (self.seconds, self.peak, self.name_order)

    @property
    def size_order(self) -> tuple[object, ...]:
        """Sort key: smallest first, then fastest."""
        return (self.peak, self.seconds, self.name_order)

    @property
    def kind(self) -> Hashable:
        """Same layout and placement, whatever the tile and the number of resident blocks."""
        return (self.option.key, self.placement)


def weigh(
    problem: Problem,
    slot: Slot,
    option: LayoutOption,
    placement: Placement,
    tile_size: int | None,
    resident_blocks: int = 0,
) -> Weighed:
    """One candidate, weighed exactly."""
    key = (option.key, placement, tile_size, resident_blocks)
    known: tuple[Choice, Footprint] | None = problem.memo.get(("memory", key))
    if known is None:
        choice = _choice(problem, option, placement, tile_size, resident_blocks)
        known = problem.memo["memory", key] = (choice, _memory(problem, choice))
    choice, memory = known
    times = _known_times(problem, option, placement, tile_size, resident_blocks)
    weighed = Weighed(
        problem,
        slot,
        option,
        placement,
        tile_size,
        resident_blocks,
        memory.peak,
        memory.host,
        comparable(times.request),
        memory.worst_phase,
    )
    weighed.__dict__.update(choice=choice, memory=memory, times=times)
    return weighed


def request_seconds(
    problem: Problem, option: LayoutOption, placement: Placement, tile_size: int | None, blocks: int = 0
) -> float:
    """Seconds of a request alone."""
    return _known_times(problem, option, placement, tile_size, blocks).request


def _known_times(
    problem: Problem, option: LayoutOption, placement: Placement, tile_size: int | None, blocks: int
) -> Times:
    key = ("times", (option.key, placement, tile_size, blocks))
    known: Times | None = problem.memo.get(key)
    if known is None:
        known = _times(problem, _choice(problem, option, placement, tile_size, blocks))
        problem.memo[key] = known
    return known


def comparable(seconds: float) -> float:
    """Whole nanoseconds, so that sums of the same terms in another order compare as equal."""
    return int(seconds * 1e9 + 0.5) / 1e9


def tile_options(problem: Problem) -> tuple[int | None, ...]:
    """Tile sizes worth weighing: the user's, else whole and the family's tiles that are smaller than the
    picture.
    """
    explicit = problem.intent.vae_tile_size
    if explicit is not None:
        return (explicit,)
    pixels = problem.largest_shape.width * problem.largest_shape.height
    return (None, *(size for size in problem.facts.decode.tile_sizes if size**2 < pixels))


def compiles(problem: Problem) -> bool:
    """Whether blocks are compiled: the user's word, else where the family measured it. The same for every
    placement, streamed blocks included, so that costs of placements add up whatever the layout.
    """
    intent = problem.intent
    if intent.compile is not None:
        return intent.compile
    if (intent.tensor or 1) > 1:
        return False
    if intent.device == "cpu" or (intent.mode == "manual" and intent.bias is None):
        return False
    return problem.facts.compile_proven


def _choice(
    problem: Problem, option: LayoutOption, placement: Placement, tile: int | None, blocks: int
) -> Choice:
    compiled = compiles(problem)
    return Choice(option.ranks, option.layout, placement, tile, compiled, resident_blocks=blocks)


def _calibration(problem: Problem, choice: Choice) -> Calibration | None:
    if not problem.calibrations:
        return None
    key = (
        layout_key(choice.layout),
        frozenset(choice.residency),
        choice.resident_blocks,
        frozenset(problem.dtype.items()),
        choice.compiled,
        problem.intent.attention_backend or "native",
        choice.tile_size,
    )
    return problem.measured.get(key)


def _memory(problem: Problem, choice: Choice) -> Footprint:
    """By the model; measured phases replace its phases, and the measured peak sets the worst of them."""
    predicted = footprint(problem, choice)
    measured = _calibration(problem, choice)
    if measured is None or not _same_picture(measured.shape, problem.largest_shape):
        return predicted
    known = predicted
    for name, taken in measured.phases.items():
        if taken.allocated_bytes is not None:
            weights = min(getattr(predicted, name).weights, taken.allocated_bytes)
            gap = max(0, (taken.reserved_bytes or 0) - taken.allocated_bytes)
            known = _with_phase(known, name, Phase(weights, taken.allocated_bytes - weights, gap))
    return _with_peak(known, measured.peak_per_gpu_bytes)


def _with_phase(memory: Footprint, name: str, phase: Phase) -> Footprint:
    phases = {key: getattr(memory, key) for key in PHASES} | {name: phase}
    return Footprint(context=memory.context, host=memory.host, **phases)


def _with_peak(memory: Footprint, peak: int) -> Footprint:
    """The phases made to agree with a measured peak: larger ones are cut, a smaller worst one gets a gap."""
    context = min(memory.context, peak)
    room = peak - context
    cut = replace(memory, context=context)
    for name in PHASES:
        cut = _with_phase(cut, name, _cut(getattr(memory, name), room))
    worst: Phase = getattr(cut, cut.worst_phase)
    return _with_phase(cut, cut.worst_phase, replace(worst, gap=worst.gap + peak - cut.peak))


def _cut(phase: Phase, room: int) -> Phase:
    """At most `room` bytes: first the gap gives way, then activations, then weights."""
    weights = min(phase.weights, room)
    activation = min(phase.activation, room - weights)
    return Phase(weights, activation, min(phase.gap, room - weights - activation))


def _times(problem: Problem, choice: Choice) -> Times:
    measured = _calibration(problem, choice)
    shape = problem.shapes[0]
    if measured is None or not _same_picture(measured.shape, shape):
        return predict_times(problem, choice)
    more_steps = shape.steps - measured.shape.steps
    request = max(
        measured.per_step_seconds, measured.per_request_seconds + more_steps * measured.per_step_seconds
    )
    return Times(measured.per_forward_seconds, measured.per_step_seconds, request)


def _same_picture(one: Shape, other: Shape) -> bool:
    return (one.width, one.height, one.frames) == (other.width, other.height, other.frames)
