"""How many GPUs a replica gets: an explicit count wins, memory and manual take the fewest, else the
objective decides.

The objective only weighs counts for which all replicas fit the free capacity; efficiency(n) = n0 x t(n0) /
(n x t(n)).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.modes import CountResult, plan_count
from diffusion_runtime.planning.problem import Problem, Slot
from diffusion_runtime.planning.units import format_seconds

DEFAULT_RESERVE_FRACTION = 0.05
_LEAST_EFFICIENCY = {"balanced": 0.9, "latency": 0.5}


@dataclass(frozen=True)
class CountDecision:
    """The results of every count that was looked at, the winner, and the sentence that says why it won."""

    results: tuple[CountResult, ...]
    winner: CountResult | None
    why: str = ""


def replicas_that_fit(nodes: Sequence[GpuNode], gpus_per_replica: int) -> int:
    """How many replicas of that many GPUs the free GPUs hold; a replica never spans nodes."""
    return sum(len(node.gpus) // gpus_per_replica for node in nodes)


def most_gpus(nodes: Sequence[GpuNode]) -> int:
    """Free GPUs of the node that has most of them."""
    return max((len(node.gpus) for node in nodes), default=0)


NodeKinds = Mapping[tuple[tuple[int, ...], int | None], int]
"""How many nodes have these free bytes per GPU (most first) and this free host memory."""


def node_kinds(nodes: Sequence[GpuNode]) -> NodeKinds:
    """Nodes that look alike are counted together: a thousand nodes are a few kinds."""
    distinct = {id(node): node for node in nodes}
    found: Counter[tuple[tuple[int, ...], int | None]] = Counter()
    for key, times in Counter(map(id, nodes)).items():
        node = distinct[key]
        free = sorted((gpu.free_bytes for gpu in node.gpus), reverse=True)
        found[tuple(free), node.host_free_bytes] += times
    return found


def slot_for(kinds: NodeKinds, gpus: int, replicas: int, intent: Intent) -> Slot:
    """The room that the worst placed of `replicas` finds when each takes the freest GPUs left on a node."""
    rooms: Counter[tuple[int, int | None]] = Counter()
    for (free, host), nodes in kinds.items():
        sets = len(free) // gpus
        share = None if host is None else host // max(1, min(sets, replicas))
        for index in range(sets):
            rooms[free[(index + 1) * gpus - 1], share] += nodes
    used, wanted = [], replicas
    for room in sorted(rooms, key=lambda room: (room[0], room[1] or 0), reverse=True):
        if wanted > 0:
            used.append(room)
            wanted -= rooms[room]
    least = min(free for free, _ in used)
    hosts = [host for _, host in used if host is not None]
    return Slot(least, _usable(least, intent), min(hosts) if hosts else None, rooms.total())


def decide_count(problem: Problem, nodes: Sequence[GpuNode], replicas: int) -> CountDecision:
    """Plan every count worth looking at and choose one."""
    intent = problem.intent
    most = most_gpus(nodes)
    most = min(most, intent.max_gpus_per_replica or most)
    counts: Sequence[int] = range(1, most + 1)
    if intent.gpus_per_replica is not None:
        counts = (intent.gpus_per_replica,)
    if intent.fsdp is True or intent.text_encoder_tensor:
        counts = [n for n in counts if n > 1]
    fewest_first = intent.bias is None and intent.mode in ("memory", "manual")
    results: list[CountResult] = []
    kinds = node_kinds(nodes)
    for gpus in counts:
        result = plan_count(problem, gpus, slot_for(kinds, gpus, replicas, intent))
        if result.has_layout:
            results.append(result)
        if result.chosen is not None and fewest_first:
            break
    works = [result for result in results if result.chosen is not None]
    if not works:
        return CountDecision(tuple(results), None)
    if intent.gpus_per_replica is not None:
        return CountDecision(tuple(results), works[0], f"{_gpus(works[0].gpus)} per replica were set.")
    if fewest_first:
        why = (
            f"{intent.mode.capitalize()} takes the fewest GPUs that work: {_gpus(works[0].gpus)} per replica."
        )
        return CountDecision(tuple(results), works[0], why)
    return _by_objective(problem, results, works, replicas)


def _by_objective(
    problem: Problem, results: list[CountResult], works: list[CountResult], replicas: int
) -> CountDecision:
    roomy = [result for result in works if result.slot.replicas >= replicas]
    if not roomy:
        winner = max(works, key=lambda r: (r.slot.replicas, -r.gpus))
        why = (
            f"No count fits all {replicas} replicas; {_gpus(winner.gpus)} each runs most of them: "
            f"{winner.slot.replicas}, and {replicas - winner.slot.replicas} wait."
        )
        return CountDecision(tuple(results), winner, why)
    objective = problem.intent.objective
    base = roomy[0]
    if objective == "throughput":
        winner = min(roomy, key=lambda r: (round(_gpu_seconds(r), 9), r.gpus))
    else:
        least = _LEAST_EFFICIENCY[objective]
        efficient = [r for r in roomy if efficiency(base, r) >= least]
        winner = min(efficient, key=lambda r: (_seconds(r), r.gpus))
    return CountDecision(tuple(results), winner, _why(problem, base, winner, works, roomy, replicas))


def _why(
    problem: Problem,
    base: CountResult,
    winner: CountResult,
    works: list[CountResult],
    roomy: list[CountResult],
    replicas: int,
) -> str:
    objective = problem.intent.objective
    by_gpu = ", by the GPUs' times" if problem.intent.device == "cpu" else ""
    if winner is not base:
        return (
            f"{_gpus(winner.gpus)} per replica: {format_seconds(_seconds(winner))} per request against "
            f"{format_seconds(_seconds(base))} on {base.gpus}, efficiency {efficiency(base, winner):.2f} "
            f"({objective}{by_gpu})."
        )
    if len(works) > len(roomy):
        return f"{_gpus(winner.gpus)} per replica: with more, not all {replicas} replicas would fit."
    if len(roomy) > 1:
        other = min(roomy[1:], key=_seconds)
        return (
            f"{_gpus(winner.gpus)} per replica: {other.gpus} would bring "
            f"{format_seconds(_seconds(other))} instead of "
            f"{format_seconds(_seconds(winner))} per request, efficiency "
            f"{efficiency(base, other):.2f} ({objective}{by_gpu})."
        )
    return f"{_gpus(winner.gpus)} per replica is the only count with a plan in this mode."


def efficiency(base: CountResult, result: CountResult) -> float:
    """n0 x t(n0) / (n x t(n)): 1.0 when every added GPU pays in full."""
    return _gpu_seconds(base) / _gpu_seconds(result)


def _gpu_seconds(result: CountResult) -> float:
    return result.gpus * _seconds(result)


def _seconds(result: CountResult) -> float:
    assert result.chosen is not None  # noqa: S101  # callers pass only counts that work
    return result.chosen.seconds


def _usable(free_bytes: int, intent: Intent) -> int:
    if intent.memory_reserve_bytes is not None:
        return max(0, free_bytes - intent.memory_reserve_bytes)
    fraction = intent.memory_reserve_fraction
    return int(free_bytes * (1 - (DEFAULT_RESERVE_FRACTION if fraction is None else fraction)))


def _gpus(count: int) -> str:
    return f"{count} GPU" if count == 1 else f"{count} GPUs"
