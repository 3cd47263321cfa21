"""What each hardware group offers one deployment: the plan that exists, the last good one, or a new one.

An offer says nothing of how many replicas it gets; `handout` does. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.placement.decision import CurrentGroup
from diffusion_operator.placement.feedback import fits_experience, remembered, step_down
from diffusion_operator.placement.groups import Group, needed_bytes
from diffusion_operator.placement.history import Downgrade, Evidence, FailedPlan, History
from diffusion_operator.placement.wish import intent_of, workload_of
from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.documents import NoPlan, Plan
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.search import make_plan


@dataclass(frozen=True)
class Offer:
    """A plan for one group. `kept` is how many replicas follow it already."""

    group: Group
    plan: Plan
    intent: str
    wish: str
    kept: int = 0
    engine_image: str | None = None
    rolled_back: FailedPlan | None = None
    failed: FailedPlan | None = None
    downgraded_from: str | None = None

    @property
    def rank(self) -> tuple[float, str, str]:
        """Least GPU-seconds per request first, then the name."""
        seconds = self.plan.gpus_per_replica * self.plan.time.per_request_seconds
        return seconds, self.group.name, self.group.product


@dataclass
class Offers:
    """Makes the offers of one deployment. `history` may gain the name of a fallback that was chosen."""

    dd: DiffusionDeployment
    facts: ModelFacts
    current: Sequence[CurrentGroup]
    history: History
    evidence: Sequence[Evidence]
    intent: str
    wish: str
    engine: str
    blocked: list[tuple[Group, NoPlan]] = field(default_factory=list)

    def kept(self, groups: Sequence[Group]) -> list[Offer]:
        """Plans that exist and still hold, best first."""
        found = [offer for group in groups if (offer := self._gone_back(group) or self._same(group))]
        return sorted(found, key=lambda offer: offer.rank)

    def new(
        self, group: Group, nodes: tuple[GpuNode, ...], replicas: int, most_gpus: int | None
    ) -> Offer | None:
        """A plan made for these nodes of the group; why there is none is kept in `blocked`.

        `most_gpus` bounds a count that the user leaves open. Raises BadRequest.
        """
        answer = self.plan(nodes, replicas, most_gpus)
        if isinstance(answer, NoPlan):
            self.blocked.append((group, answer))
        if not isinstance(answer, Plan):
            return None
        ends = remembered(answer, group.hardware, self.engine, self.history)
        leaner = None if not ends or fits_experience(answer, ends) else step_down(answer, ends)
        if leaner is None:
            return Offer(group, answer, self.intent, self.wish)
        self._name_fallback(ends[-1], leaner)
        return Offer(group, leaner, self.intent, self.wish, downgraded_from=ends[-1].plan_hash)

    def plan(
        self, nodes: tuple[GpuNode, ...], replicas: int, most_gpus: int | None = None
    ) -> Plan | NoPlan | None:
        """The planner's answer; None when there is no node to plan for."""
        if not nodes:
            return None
        intent = intent_of(self.dd.spec)
        if most_gpus is not None and intent.gpus_per_replica is None:
            bound = min(most_gpus, intent.max_gpus_per_replica or most_gpus)
            intent = intent.model_copy(update={"max_gpus_per_replica": bound})
        workload = workload_of(self.dd.spec, self.facts)

        def ask(some: Sequence[GpuNode]) -> Plan | NoPlan:
            return make_plan(self.facts, workload, intent, some, max(1, replicas))

        answer = ask(nodes)
        return answer if isinstance(answer, Plan) else _without_busiest(ask, nodes) or answer

    def _same(self, group: Group) -> Offer | None:
        """The plan that exists, if it was made for the same wish, or its fallback after an end by memory."""
        old = self._current(group)
        if old is None or old.intent != self.intent or not memory_suffices(old.plan, group):
            return None
        plan = old.plan
        ended = any(
            seen.kind == "outOfMemory" and (seen.group, seen.plan_hash) == (group.name, plan.hash)
            for seen in self.evidence
        )
        ends = remembered(plan, group.hardware, self.engine, self.history) if ended else []
        leaner = step_down(plan, ends) if ends and not fits_experience(plan, ends) else None
        if leaner is not None:
            return Offer(
                group, leaner, self.intent, self.wish, old.replicas, downgraded_from=ends[-1].plan_hash
            )
        came_from = next((d.plan_hash for d in self.history.downgrades if d.to_hash == plan.hash), None)
        failure = self.history.failure(group.name, self.intent, group.hardware)
        failed = failure if failure and failure.plan_hash == plan.hash else None
        return Offer(
            group, plan, self.intent, self.wish, old.replicas, failed=failed, downgraded_from=came_from
        )

    def _gone_back(self, group: Group) -> Offer | None:
        """The last plan that was ready, while the one that this wish gives is known to fail."""
        failure = self.history.failure(group.name, self.intent, group.hardware)
        good = self.history.last_ready(group.name)
        if failure is None or good is None:
            return None
        entry, plan = good
        # What failed now was good once: there is nothing else to go back to.
        same = (entry.plan_hash, entry.intent) == (failure.plan_hash, self.intent)
        # What is mounted is read from the present spec: another model's plan would find no files.
        if plan.model.path != self.facts.model.path:
            return None
        if same or plan.gpu_product not in (None, group.product) or not memory_suffices(plan, group):
            return None
        old = self._current(group)
        return Offer(
            group,
            plan,
            entry.intent,
            entry.wish,
            old.replicas if old else 0,
            entry.engine_image,
            rolled_back=failure,
        )

    def _current(self, group: Group) -> CurrentGroup | None:
        """The live group of this name on this product."""
        return next(
            (
                old
                for old in self.current
                if old.name == group.name and old.plan.gpu_product in (None, group.product)
            ),
            None,
        )

    def _name_fallback(self, end: Downgrade, leaner: Plan) -> None:
        named = tuple(replace(d, to_hash=leaner.hash) if d is end else d for d in self.history.downgrades)
        self.history = replace(self.history, downgrades=named)


def memory_suffices(plan: Plan, group: Group) -> bool:
    """No GPU has less than the plan needs; where one has less free, at least one replica stays or fits."""
    needed = needed_bytes(plan)
    if any(candidate.device.free_bytes < needed for candidate in group.candidates):
        return False
    busy = any(candidate.free_bytes < needed for candidate in group.candidates)
    return not busy or group.fits(plan, 1, staying=True) > 0


def _without_busiest(
    ask: Callable[[Sequence[GpuNode]], Plan | NoPlan], nodes: tuple[GpuNode, ...]
) -> Plan | None:
    """The plan that uses most nodes when those with the least free memory are left out.

    The planner counts for the worst replica, so one busy node could otherwise keep all replicas from running.
    """
    usable = [node for node in nodes if node.gpus]
    levels = sorted({node.gpus[0].free_bytes for node in usable})
    low, high, best = 1, len(levels) - 1, None
    while low <= high:
        middle = (low + high) // 2
        answer = ask([node for node in usable if node.gpus[0].free_bytes >= levels[middle]])
        if isinstance(answer, Plan):
            best, high = answer, middle - 1
        else:
            low = middle + 1
    return best
