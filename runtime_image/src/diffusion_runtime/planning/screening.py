"""Every candidate of one GPU count, cheaply: its phases and seconds are sums of what its parts cost.

A candidate is a layout with a way to hold the transformers (A), a way to hold everything else (B) and a tile
size (C). Memory of each phase and seconds of a request are additive in A, B and C, so weighing
|A| + |B| + |C| candidates exactly gives all |A| x |B| x |C|; a test holds this against weighing each one.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter

from diffusion_runtime.planning.calibrations import PHASES
from diffusion_runtime.planning.documents import Layout
from diffusion_runtime.planning.evaluate import Weighed, comparable, request_seconds, tile_options, weigh
from diffusion_runtime.planning.layouts import LayoutOption, plain_options, sharded_options
from diffusion_runtime.planning.problem import Problem, Slot
from diffusion_runtime.planning.residencies import (
    Moves,
    Placement,
    other_moves,
    placed,
    stream_points,
    transformer_moves,
)

_Totals = tuple[int, int, int, int, int, float]
"""load, text, denoise, decode and host bytes, and seconds of a request."""
_Row = tuple[Placement, int | None, int, int, int, float, str]
"""Placement, tile, resident blocks, peak and host bytes, seconds, worst phase; of one layout."""


def everything(problem: Problem, gpus: int, slot: Slot, like: Layout | None = None) -> list[Weighed]:
    """Candidates of one GPU count: layouts with and without FSDP, every allowed placement and tile.

    `like` narrows the layouts to one split of the work, with and without FSDP. What another candidate of
    the same layout beats in GPU memory, host memory and time can never be chosen, and is left out.
    """
    found: list[Weighed] = []
    plain, sharded = _alike(plain_options(problem, gpus), like), _alike(sharded_options(problem, gpus), like)
    plain = () if problem.intent.fsdp is True and gpus > 1 else plain
    for options in (plain, sharded):
        if not options:
            continue
        fsdp = options is sharded
        transformers, others = transformer_moves(problem, fsdp), other_moves(problem, fsdp)
        if not transformers:
            continue
        if fsdp and plain:
            options = same_splits(sharded, plain)  # what lost without shards loses with them
        else:
            options = unbeaten_layouts(problem, slot, options, placed(problem, transformers[0] | others[0]))
            plain = () if fsdp else options
        found += _screened(problem, slot, options, transformers, others, prune=True)
    return found


def same_splits(
    options: tuple[LayoutOption, ...], kept: tuple[LayoutOption, ...]
) -> tuple[LayoutOption, ...]:
    """Those options that split the work as one of `kept` does, FSDP aside."""
    splits = {option.key[:4] for option in kept}
    return tuple(option for option in options if option.key[:4] in splits)


def unbeaten_layouts(
    problem: Problem, slot: Slot, options: tuple[LayoutOption, ...], placement: Placement
) -> tuple[LayoutOption, ...]:
    """Layouts that no other one beats in every phase and in time; whoever does, does under any placement."""
    tile, question = tile_options(problem)[0], problem.unmeasured
    fastest: dict[tuple[int, ...], tuple[float, LayoutOption]] = {}
    for option in options:
        layout = option.layout
        # Ulysses and ring cut tokens and weights alike; only their time differs.
        alike = (layout.cfg, layout.ulysses * layout.ring, layout.tensor)
        seconds = request_seconds(question, option, placement, tile)
        if alike not in fastest or seconds < fastest[alike][0]:
            fastest[alike] = (seconds, option)
    kept = [option for _, option in fastest.values()]
    costs = [_totals(weigh(question, slot, option, placement, tile)) for option in kept]
    return tuple(option for index, option in enumerate(kept) if not _beaten(index, costs))


def one_placement(
    problem: Problem,
    slot: Slot,
    options: tuple[LayoutOption, ...],
    placement: Placement,
    *,
    plain: bool = False,
) -> list[Weighed]:
    """Candidates of several layouts for one placement, with every tile and every number of resident blocks.

    `plain` streams whole transformers: no resident blocks beside them.
    """
    names = problem.names_by_role["transformer"]
    transformers: Moves = {name: mode for name, mode in placement if name in names}
    others: Moves = {name: mode for name, mode in placement if name not in names}
    return _screened(problem, slot, options, (transformers,), (others,), plain=plain)


def _screened(
    problem: Problem,
    slot: Slot,
    options: tuple[LayoutOption, ...],
    transformers: tuple[Moves, ...],
    others: tuple[Moves, ...],
    *,
    prune: bool = False,
    plain: bool = False,
) -> list[Weighed]:
    """Every combination; `prune` leaves out what is beaten whatever is free."""
    placements = tuple(tuple(placed(problem, t | o) for o in others) for t in transformers)
    found: list[Weighed] = []
    for option in options:
        key = ("screened", option.key, placements, prune, plain)
        rows: list[_Row] | None = problem.memo.get(key)
        if rows is None:
            rows = _rows(problem, slot, option, placements, plain=plain)
            rows = problem.memo[key] = _unbeaten(rows) if prune and not problem.calibrations else rows
        found += [Weighed(problem, slot, option, *row) for row in rows]
    if problem.calibrations:
        found = [_measured(w) if w.calibration is not None else w for w in found]
    return found


def _rows(
    problem: Problem,
    slot: Slot,
    option: LayoutOption,
    placements: tuple[tuple[Placement, ...], ...],
    *,
    plain: bool,
) -> list[_Row]:
    """What does not depend on the slot. `placements` is [way to hold transformers][way to hold the rest]."""
    tile = tile_options(problem)[0]
    weighed = _Weigher(problem, slot, option)
    base = weighed.totals(placements[0][0], tile)
    ways = weighed.ways(tuple(held[0] for held in placements), tile, plain=plain)
    rest = weighed.rest(placements[0])
    rows: list[_Row] = []
    for index, held in enumerate(placements):
        blocks_of_way = [blocks for i, blocks, _ in ways if i == index]
        seconds = _by_blocks(problem, option, held[0], tile, blocks_of_way)
        for _, blocks, more in (way for way in ways if way[0] == index):
            totals = (*_plus(base, more)[:5], seconds[blocks])
            rows += [(held[other], size, blocks, *_sum(totals, delta)) for other, size, delta in rest]
    return rows


@dataclass(frozen=True)
class _Weigher:
    """Exact costs around one layout, and what changes by holding components otherwise (kept in the memo)."""

    problem: Problem
    slot: Slot
    option: LayoutOption

    def totals(self, placement: Placement, tile: int | None, blocks: int = 0) -> _Totals:
        """Costs by the models."""
        return _totals(weigh(self.problem.unmeasured, self.slot, self.option, placement, tile, blocks))

    def ways(
        self, held: tuple[Placement, ...], tile: int | None, *, plain: bool
    ) -> list[tuple[int, int, _Totals]]:
        """(way to hold the transformers, resident blocks, bytes more than the first way).

        The bytes are the same for every layout of one tensor degree. Time is not: streaming can hide.
        """
        layout = self.option.layout
        key = ("held", self.option.ranks, layout.tensor, layout.fsdp, held, plain)
        known: list[tuple[int, int, _Totals]] | None = self.problem.memo.get(key)
        if known is None:
            base = self.totals(held[0], tile)
            known = self.problem.memo[key] = [
                (index, blocks, _minus(self.totals(placement, tile, blocks), base))
                for index, placement in enumerate(held)
                for blocks in ((0,) if plain else stream_points(self.problem, placement))
            ]
        return known

    def rest(self, placements: tuple[Placement, ...]) -> list[tuple[int, int | None, _Totals]]:
        """(way to hold the rest, tile, cost more than the first of both), the same for every layout."""
        key = ("deltas", self.option.ranks, placements)
        known: list[tuple[int, int | None, _Totals]] | None = self.problem.memo.get(key)
        if known is None:
            first = tile_options(self.problem)[0]
            base = self.totals(placements[0], first)
            by_other = [_minus(self.totals(placement, first), base) for placement in placements]
            known = self.problem.memo[key] = [
                (index, tile, _plus(other, more))
                for index, other in enumerate(by_other)
                for tile, more in self._tiles(placements[0])
            ]
        return known

    def _tiles(self, placement: Placement) -> list[tuple[int | None, _Totals]]:
        """(tile, cost more than the first tile), the same under every layout and placement."""
        known: list[tuple[int | None, _Totals]] | None = self.problem.memo.get("tiles")
        if known is None:
            tiles = tile_options(self.problem)
            base = self.totals(placement, tiles[0])
            known = [(tile, _minus(self.totals(placement, tile), base)) for tile in tiles]
            self.problem.memo["tiles"] = known
        return known


def _by_blocks(
    problem: Problem, option: LayoutOption, placement: Placement, tile: int | None, points: list[int]
) -> dict[int, float]:
    """Seconds of a request by resident blocks; more are never slower, so equal ends mean all equal."""
    ends = {
        b: request_seconds(problem.unmeasured, option, placement, tile, b) for b in (points[0], points[-1])
    }
    if len(set(ends.values())) == 1:
        return dict.fromkeys(points, ends[points[0]])
    return {b: request_seconds(problem.unmeasured, option, placement, tile, b) for b in points}


def _unbeaten(rows: list[_Row]) -> list[_Row]:
    """Rows that no other beats in peak, host bytes and seconds together, smallest peak first."""
    kept: list[_Row] = []
    # A staircase of what was kept so far: host bytes rise, the seconds of the fastest up to there fall.
    hosts: list[int] = []
    fastest: list[float] = []
    for row in sorted(rows, key=itemgetter(3, 5, 4)):
        host, seconds = row[4], row[5]
        place = bisect_right(hosts, host)
        if place and fastest[place - 1] <= seconds:
            continue
        kept.append(row)
        end = place
        while end < len(hosts) and fastest[end] >= seconds:
            end += 1
        hosts[place:end], fastest[place:end] = [host], [seconds]
    return kept


def _sum(a: _Totals, b: _Totals) -> tuple[int, int, float, str]:
    """Peak and host bytes, seconds, and the phase that sets the peak."""
    phases = (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])
    peak = max(phases)
    return (peak, a[4] + b[4], comparable(a[5] + b[5]), PHASES[phases.index(peak)])


def _measured(candidate: Weighed) -> Weighed:
    """The same candidate by its calibration."""
    return weigh(
        candidate.problem,
        candidate.slot,
        candidate.option,
        candidate.placement,
        candidate.tile_size,
        candidate.resident_blocks,
    )


def _totals(weighed: Weighed) -> _Totals:
    memory, context = weighed.memory, weighed.memory.context
    return (
        context + memory.load.total,
        context + memory.text.total,
        context + memory.denoise.total,
        context + memory.decode.total,
        memory.host,
        weighed.times.request,
    )


def _plus(one: _Totals, other: _Totals) -> _Totals:
    a, b = one, other
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3], a[4] + b[4], a[5] + b[5])


def _minus(one: _Totals, other: _Totals) -> _Totals:
    a, b = one, other
    return (a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3], a[4] - b[4], a[5] - b[5])


def _beaten(index: int, totals: list[_Totals]) -> bool:
    """Whether another layout is no worse in anything and better in something, or the same and earlier."""
    mine = totals[index]
    return any(
        all(x <= y for x, y in zip(other, mine, strict=True)) and (other != mine or i < index)
        for i, other in enumerate(totals)
        if i != index
    )


def _alike(options: tuple[LayoutOption, ...], like: Layout | None) -> tuple[LayoutOption, ...]:
    if like is None:
        return options
    split = ("cfg", "ulysses", "ring", "tensor")
    return tuple(o for o in options if all(getattr(o.layout, a) == getattr(like, a) for a in split))


def front(candidates: list[Weighed]) -> list[Weighed]:
    """Candidates that nothing beats in both peak and time, smallest peak first."""
    found: list[Weighed] = []
    for candidate in sorted(candidates, key=lambda w: w.size_order):
        if not found or candidate.seconds < found[-1].seconds:
            found.append(candidate)
    return found
