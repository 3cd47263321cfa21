"""The speed-memory front of one GPU count as plain points, for drawing and comparing. It decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_runtime.planning.counts import node_kinds, slot_for
from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.documents import Plan, Workload
from diffusion_runtime.planning.evaluate import Weighed
from diffusion_runtime.planning.explain import layout_summary, residency_summary
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.screening import everything, front
from diffusion_runtime.planning.settled import settled
from diffusion_runtime.planning.wire import residency_document


@dataclass(frozen=True)
class Point:
    """One candidate: peak bytes per GPU and seconds per request; `on_front`: nothing that fits beats it."""

    peak_bytes: int
    seconds: float
    words: str
    fits: bool
    on_front: bool


@dataclass(frozen=True)
class Picture:
    """All candidates of the plan's GPU count, and the room that they were weighed against."""

    points: tuple[Point, ...]
    free_bytes: int
    usable_bytes: int


def picture_of(
    plan: Plan,
    facts: ModelFacts,
    workload: Workload,
    intent: Intent,
    nodes: Sequence[GpuNode],
    replicas: int = 1,
) -> Picture:
    """The candidates among which `plan` (made from the same arguments) stands."""
    device = next(gpu for node in nodes for gpu in node.gpus)
    problem = settled(facts, workload, intent, device)
    slot = slot_for(node_kinds(nodes), plan.gpus_per_replica, replicas, intent)
    found = everything(problem, plan.gpus_per_replica, slot)
    best = {id(w) for w in front([w for w in found if w.fits])}
    return Picture(tuple(_point(w, id(w) in best) for w in found), slot.free_bytes, slot.usable_bytes)


def _point(weighed: Weighed, on_front: bool) -> Point:
    layout = layout_summary(weighed.option.layout, weighed.gpus)
    words = f"{layout}, {residency_summary(residency_document(weighed.choice))}"
    return Point(weighed.peak, weighed.seconds, words, weighed.fits, on_front)
