"""Turns experience into the next decision: the next fallback after running out of memory, the last good plan
after a roll-out that failed.

Memory first: a fallback is tried before anything is given up. Nothing is tried twice while wish, engine and
hardware stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from diffusion_operator.placement.decision import CurrentGroup
from diffusion_operator.placement.groups import Group
from diffusion_operator.placement.history import (
    MOST_DOWNGRADES,
    MOST_FAILED,
    Downgrade,
    Evidence,
    FailedPlan,
    History,
)
from diffusion_runtime.planning.documents import Execution, Fallback, Plan, plan_hash
from diffusion_runtime.planning.explain import format_bytes, layout_summary

HOST_REASONS = frozenset({"HostOOMKilled", "InsufficientHostMemory"})


@dataclass(frozen=True)
class Experience:
    """What was known and what was just seen, for one decision."""

    history: History
    evidence: tuple[Evidence, ...]
    intent: str
    engine: str

    def learned(self, groups: Sequence[Group], current: Sequence[CurrentGroup]) -> History:
        """The history with the evidence in it, without what no longer holds.

        A failed plan holds for one intent, which covers spec and engine; hardware that a group no longer has
        makes both kinds of entries void.
        """
        hardware = {group.name: group.hardware for group in groups}
        # A group whose nodes are all gone may come back: its entries wait for it.
        failed = [f for f in self.history.failed if f.intent == self.intent and _holds(f, hardware)]
        downgrades = [d for d in self.history.downgrades if d.engine == self.engine and _is_here(d, groups)]
        by_name = {group.name: group for group in current}
        for seen in self.evidence:
            old = by_name.get(seen.group)
            if old is None or old.plan.hash != seen.plan_hash or seen.group not in hardware:
                continue
            leaner = None
            if seen.kind != "failed":
                entry = downgrade_of(old.plan, seen, hardware[seen.group], old.engine_image or self.engine)
                leaner = step_down(old.plan, [entry])
                entry = replace(entry, to_hash=leaner.hash if leaner else "")
                downgrades = _with_downgrade(downgrades, entry)
            if leaner is None and seen.kind != "fallback" and old.intent == self.intent:
                failed = _with_failure(failed, seen, self.intent, hardware[seen.group])
        return replace(
            self.history,
            failed=tuple(failed[-MOST_FAILED:]),
            downgrades=tuple(downgrades[-MOST_DOWNGRADES:]),
        )


def downgrade_of(plan: Plan, seen: Evidence, hardware: str, engine: str) -> Downgrade:
    """The memory of one end: what the plan was for, and the peak of what was executed.

    An engine that executes a fallback has proven that what came before it does not fit.
    """
    tried: Plan | Fallback = plan
    for index, fallback in enumerate(plan.fallbacks):
        if fallback.hash == seen.executing:
            before = plan.fallbacks[index - 1] if index else plan
            tried = before if seen.kind == "fallback" else fallback
    return Downgrade(
        model=f"{plan.model.name}@{plan.model.revision or 'built-in'}",
        layout=layout_summary(plan.layout, plan.gpus_per_replica),
        shapes=_shapes(plan),
        engine=engine,
        hardware=hardware,
        plan_hash=plan.hash,
        peak_bytes=_peak(tried),
        reason=seen.reason,
        message=seen.message,
    )


def remembered(plan: Plan, hardware: str, engine: str, history: History) -> list[Downgrade]:
    """The ends that answer for this plan too: same model, layout, shapes, engine and hardware."""
    question = (
        f"{plan.model.name}@{plan.model.revision or 'built-in'}",
        layout_summary(plan.layout, plan.gpus_per_replica),
        _shapes(plan),
        engine,
        hardware,
    )
    return [d for d in history.downgrades if (d.model, d.layout, d.shapes, d.engine, d.hardware) == question]


def step_down(plan: Plan, ends: Sequence[Downgrade]) -> Plan | None:
    """The first fallback that needs less than everything that ran out of memory; None when there is none.

    Want of host memory is helped only by a fallback that keeps less there.
    """
    gpu = [end for end in ends if end.reason not in HOST_REASONS]
    host = [end for end in ends if end.reason in HOST_REASONS]
    limit = min((end.peak_bytes for end in gpu), default=plan.memory.peak_per_gpu_bytes + 1)
    for index, fallback in enumerate(plan.fallbacks):
        if host and (fallback.host_bytes is None or fallback.host_bytes >= plan.memory.host_bytes):
            continue
        if fallback.peak_per_gpu_bytes < limit:
            return as_plan(plan, index, ends[-1])
    return None


def fits_experience(plan: Plan, ends: Sequence[Downgrade]) -> bool:
    """Whether nothing that needs as little as this plan has run out of memory."""
    host = any(end.reason in HOST_REASONS and end.plan_hash == plan.hash for end in ends)
    return not host and all(
        plan.memory.peak_per_gpu_bytes < end.peak_bytes for end in ends if end.reason not in HOST_REASONS
    )


def as_plan(plan: Plan, index: int, end: Downgrade) -> Plan:
    """The fallback at `index` as a plan of its own, with the leaner fallbacks that are left.

    Phases and times stay those of the plan: a fallback carries no forecast but its peak.
    """
    chosen, left = plan.fallbacks[index], plan.fallbacks[index + 1 :]
    host = plan.memory.host_bytes if chosen.host_bytes is None else chosen.host_bytes
    execution = Execution(**{name: getattr(chosen, name) for name in Execution.model_fields})
    words = (
        f"Plan {end.plan_hash} ran out of memory ({end.reason}); this is the fallback that needs "
        f"{format_bytes(chosen.peak_per_gpu_bytes)} per GPU instead of {format_bytes(end.peak_bytes)}."
    )
    workload = {
        "shapes": [shape.to_dict() for shape in plan.shapes],
        "guidance": plan.guidance,
        "concurrency": plan.concurrency,
        "otherShapes": plan.other_shapes,
    }
    return plan.model_copy(
        update={
            **{name: getattr(chosen, name) for name in Execution.model_fields},
            "memory": plan.memory.model_copy(
                update={"peak_per_gpu_bytes": chosen.peak_per_gpu_bytes, "host_bytes": host}
            ),
            "fallbacks": left,
            "reasons": (words, *plan.reasons),
            "hash": plan_hash(execution, plan.model, workload, left),
        }
    )


def _with_failure(failed: list[FailedPlan], seen: Evidence, intent: str, hardware: str) -> list[FailedPlan]:
    kept = [f for f in failed if (f.group, f.plan_hash) != (seen.group, seen.plan_hash)]
    return [*kept, FailedPlan(seen.group, seen.plan_hash, intent, hardware, seen.reason, seen.message)]


def _with_downgrade(known: list[Downgrade], entry: Downgrade) -> list[Downgrade]:
    """At most one entry a question and reason kind: the one with the lowest peak."""
    same = [d for d in known if _question(d) == _question(entry)]
    if any(d.peak_bytes <= entry.peak_bytes for d in same):
        return known
    return [*(d for d in known if d not in same), entry]


def _question(d: Downgrade) -> tuple[str, str, str, str, str, bool]:
    return d.model, d.layout, d.shapes, d.engine, d.hardware, d.reason in HOST_REASONS


def _holds(failed: FailedPlan, hardware: Mapping[str, str]) -> bool:
    return hardware.get(failed.group, failed.hardware) == failed.hardware


def _is_here(entry: Downgrade, groups: Sequence[Group]) -> bool:
    """Whether the hardware is as it was; hardware that is away for a while may come back."""
    same = [group for group in groups if entry.hardware.startswith(f"{group.product} ")]
    return not same or any(group.hardware == entry.hardware for group in same)


def _peak(execution: Plan | Fallback) -> int:
    return (
        execution.memory.peak_per_gpu_bytes if isinstance(execution, Plan) else execution.peak_per_gpu_bytes
    )


def _shapes(plan: Plan) -> str:
    return ", ".join(f"{s.width}x{s.height}x{s.frames}/{s.steps}" for s in plan.shapes)
