"""What experience taught about plans: which one failed to start, which ran out of memory, which served last.

It is kept in `status.history`, so that a new operator process knows it too. Pure records; `feedback` learns
them and `decide` heeds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diffusion_runtime.planning.documents import Plan

MOST_FAILED = 16
MOST_DOWNGRADES = 16


@dataclass(frozen=True)
class FailedPlan:
    """A roll-out that did not become ready. It is not tried again for this wish on this hardware."""

    group: str
    plan_hash: str
    intent: str
    hardware: str
    reason: str
    message: str


@dataclass(frozen=True)
class Downgrade:
    """A plan that ran out of memory. Plans of the same question that need as much are not made again.

    `peak_bytes` is the predicted peak per GPU of what ran out of memory.
    """

    model: str
    layout: str
    shapes: str
    engine: str
    hardware: str
    plan_hash: str
    peak_bytes: int
    reason: str
    message: str
    to_hash: str = ""


@dataclass(frozen=True)
class LastReady:
    """The plan of a group that was ready last, with all that is needed to run it again."""

    group: str
    plan_hash: str
    intent: str
    wish: str
    engine_image: str


@dataclass(frozen=True)
class History:
    """All three lists, newest last. `plans` are the documents that still exist, by (group, hash)."""

    failed: tuple[FailedPlan, ...] = ()
    downgrades: tuple[Downgrade, ...] = ()
    ready: tuple[LastReady, ...] = ()
    plans: Mapping[tuple[str, str], Plan] = field(default_factory=dict, compare=False)

    def last_ready(self, group: str) -> tuple[LastReady, Plan] | None:
        """What this group can go back to."""
        for entry in self.ready:
            plan = self.plans.get((entry.group, entry.plan_hash))
            if entry.group == group and plan is not None:
                return entry, plan
        return None

    def failure(self, group: str, intent: str, hardware: str) -> FailedPlan | None:
        """The last failed roll-out of this wish on this hardware."""
        found = [f for f in self.failed if (f.group, f.intent, f.hardware) == (group, intent, hardware)]
        return found[-1] if found else None


NO_HISTORY = History()


@dataclass(frozen=True)
class Evidence:
    """What the pods of one group's present plan show. `kind` says what it means:

    `outOfMemory`: the engine ended for want of memory, after trying `executing` last; `failed`: the roll-out
    of this plan did not become ready in time; `fallback`: the engine serves, but executes `executing`.
    """

    group: str
    plan_hash: str
    kind: str
    reason: str
    message: str
    executing: str | None = None
