"""Builds choices from a layout and a placement, and weighs them: bytes, seconds, does it fit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from diffusion_runtime.planning.layouts import LayoutOption
from diffusion_runtime.planning.memory_model import Footprint, footprint
from diffusion_runtime.planning.problem import Choice, Problem, Slot
from diffusion_runtime.planning.residencies import Placement
from diffusion_runtime.planning.time_model import Times, predict_times


@dataclass(frozen=True)
class Weighed:
    """One choice with what it costs, against the room of its slot."""

    choice: Choice
    option: LayoutOption
    memory: Footprint
    times: Times
    slot: Slot

    @cached_property
    def peak(self) -> int:
        """Peak bytes per GPU."""
        return self.memory.peak

    @property
    def gpu_shortfall(self) -> int:
        """Bytes per GPU that are missing; 0 when it fits."""
        return max(0, self.peak - self.slot.usable_bytes)

    @property
    def host_shortfall(self) -> int:
        """Host bytes that are missing; 0 when they fit or are not known, or when nothing is kept on the
        host.
        """
        if self.slot.host_bytes is None or all(mode == "resident" for _, mode in self.choice.residency):
            return 0
        return max(0, self.memory.host - self.slot.host_bytes)

    @property
    def fits(self) -> bool:
        """Whether GPU and host memory suffice."""
        return not self.gpu_shortfall and not self.host_shortfall

    @property
    def name_order(self) -> tuple[object, ...]:
        """Decides ties the same way every time: layout, then placement."""
        layout = self.choice.layout
        return (layout.fsdp, -layout.cfg, layout.tensor, layout.ring, self.choice.residency)

    @property
    def speed_order(self) -> tuple[object, ...]:
        """Sort key: fastest first, then smallest."""
        return (self.times.request, self.peak, self.name_order)

    @property
    def size_order(self) -> tuple[object, ...]:
        """Sort key: smallest first, then fastest."""
        return (self.peak, self.times.request, self.name_order)


def weigh(problem: Problem, slot: Slot, option: LayoutOption, placement: Placement) -> list[Weighed]:
    """The choices for one layout and placement: decode whole, and in tiles where that can matter."""
    compiled = compiles(problem, placement)
    found = []
    for tile in tile_options(problem):
        choice = Choice(option.layout.ranks, option.layout, placement, tile, compiled)
        memory, times = footprint(problem, choice), predict_times(problem, choice)
        found.append(Weighed(choice, option, memory, times, slot))
    return found


def weigh_all(
    problem: Problem, slot: Slot, options: Iterable[LayoutOption], placement: Placement
) -> list[Weighed]:
    """The choices of several layouts for one placement."""
    return [weighed for option in options for weighed in weigh(problem, slot, option, placement)]


def tile_options(problem: Problem) -> tuple[int | None, ...]:
    """Tile sizes worth weighing: the user's, else whole and the family's tile where the picture is larger."""
    explicit = problem.intent.vae_tile_size
    if explicit is not None:
        return (explicit,)
    tile = problem.facts.decode.tile_size
    shape = problem.largest_shape
    if tile is None or tile**2 >= shape.width * shape.height:
        return (None,)
    return (None, tile)


def compiles(problem: Problem, placement: Placement) -> bool:
    """Whether blocks are compiled: the user's word, else where the family measured it and blocks are not
    streamed.
    """
    intent = problem.intent
    if intent.compile is not None:
        return intent.compile
    if intent.device == "cpu" or (intent.mode == "manual" and intent.bias is None):
        return False
    return problem.facts.compile_proven and all(mode != "layerwise" for _, mode in placement)
