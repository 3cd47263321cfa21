"""What pods say about the plan they follow: it serves, it ran out of memory, or its roll-out failed. Pure.

A roll-out fails when nothing it started became ready for the progress deadline, counted from the last sign of
progress: a pod scheduled, its container started for the first time, or loading that went on. Restarts of a
crashing container are no progress.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.placement.decision import CurrentGroup
from diffusion_operator.placement.history import Evidence, History
from diffusion_operator.reconcile.observe import PodView
from diffusion_runtime.planning.documents import EngineReport

PROGRESS_DEADLINE_S = 1200
# Not InsufficientMemory: so says an engine when others hold the GPU at its start, no fault of the plan.
MEMORY_REASONS = frozenset({"CudaOutOfMemory", "HostOOMKilled", "InsufficientHostMemory"})


@dataclass(frozen=True)
class Findings:
    """The evidence, and when to look again for want of progress.

    `progressing`: something was started less than the deadline ago and is not ready yet.
    """

    evidence: tuple[Evidence, ...] = ()
    recheck_after_s: float | None = None
    progressing: bool = False


def deadline_seconds(spec: DiffusionDeploymentSpec) -> float:
    """Seconds without progress after which a roll-out has failed."""
    return float((spec.rollout.progress_deadline_seconds if spec.rollout else None) or PROGRESS_DEADLINE_S)


def findings(
    current: Sequence[CurrentGroup],
    pods: Sequence[PodView],
    history: History,
    status: JsonObject,
    deadline_s: float,
    now: datetime,
) -> Findings:
    """All groups' evidence. `status` is the one that the last pass wrote; it names what engines executed."""
    executed = set(str((status.get("observed") or {}).get("executingHash", "")).split(","))
    evidence: list[Evidence] = []
    rechecks: list[float] = []
    progressing = False
    for group in current:
        mine = [pod for pod in pods if follows(pod, group)]
        found = _memory(group, mine) or _fallback(group, executed)
        if found is None and not any(pod.ready for pod in mine):
            left_s = _left_s(mine, deadline_s, now)
            progressing = progressing or (left_s is not None and left_s > 0)
            if can_go_back(group, history):
                found = _failed(group, mine, left_s, deadline_s)
                if found is None and left_s is not None:
                    rechecks.append(left_s)
        if found is not None:
            evidence.append(found)
    return Findings(tuple(evidence), min(rechecks, default=None), progressing)


def follows(pod: PodView, group: CurrentGroup) -> bool:
    """Whether a pod is of the group's present template."""
    same_image = None in (pod.image, group.engine_image) or pod.image == group.engine_image
    return (pod.group, pod.plan_hash) == (group.name, group.plan.hash) and same_image


def can_go_back(group: CurrentGroup, history: History) -> bool:
    """Whether this group served something else before."""
    good = history.last_ready(group.name)
    if good is None:
        return False
    entry, _ = good
    return (entry.plan_hash, entry.engine_image) != (group.plan.hash, group.engine_image)


def with_stuck(current: Sequence[CurrentGroup], pods: Sequence[PodView]) -> tuple[CurrentGroup, ...]:
    """The groups, each with whether a pod of its present template finds no node."""
    homeless = [pod for pod in pods if pod.problem and pod.problem.reason == "Unschedulable"]
    return tuple(
        replace(group, stuck=True) if any(follows(pod, group) for pod in homeless) else group
        for group in current
    )


def overdue_pods(
    current: Sequence[CurrentGroup],
    pods: Sequence[PodView],
    history: History,
    deadline_s: float,
    now: datetime,
) -> tuple[PodView, ...]:
    """Pods whose loading decides whether a roll-out fails now: worth asking how far they are."""
    return tuple(
        pod
        for group in current
        if can_go_back(group, history)
        for pod in pods
        if follows(pod, group) and pod.ip and not (pod.ready or pod.restarts)
        if pod.progress_at is not None and pod.progress_at + timedelta(seconds=deadline_s) <= now
    )


def with_progress(
    pods: Sequence[PodView], reports: Mapping[str, EngineReport], now: datetime
) -> tuple[PodView, ...]:
    """The pods, those that load with the time at which they got on last, as their engines tell it."""
    return tuple(_progressed(pod, reports.get(pod.name), now) for pod in pods)


def _progressed(pod: PodView, report: EngineReport | None, now: datetime) -> PodView:
    if report is None or report.load_idle_seconds is None or pod.progress_at is None:
        return pod
    told = now - timedelta(seconds=report.load_idle_seconds)
    return replace(pod, progress_at=max(told, pod.progress_at))


def _memory(group: CurrentGroup, pods: Sequence[PodView]) -> Evidence | None:
    for pod in pods:
        problem = pod.problem
        if problem is not None and problem.reason in MEMORY_REASONS:
            return Evidence(
                group.name, group.plan.hash, "outOfMemory", problem.reason, problem.message, problem.executing
            )
    return None


def _fallback(group: CurrentGroup, executed: set[str]) -> Evidence | None:
    for fallback in group.plan.fallbacks:
        if fallback.hash in executed:
            message = f"an engine executes fallback {fallback.hash}: what comes before it did not fit"
            return Evidence(group.name, group.plan.hash, "fallback", "FallbackActive", message, fallback.hash)
    return None


def _failed(
    group: CurrentGroup, pods: Sequence[PodView], left_s: float | None, deadline_s: float
) -> Evidence | None:
    problem = next((pod.problem for pod in pods if pod.problem and pod.problem.stalled), None)
    if problem is None and (left_s is None or left_s > 0):
        return None
    problem = problem or next((pod.problem for pod in pods if pod.problem), None)
    reason = problem.reason if problem else "Progressing"
    message = (
        problem.message if problem else f"no pod became ready within {deadline_s:.0f} s without progress"
    )
    return Evidence(group.name, group.plan.hash, "failed", reason, message)


def _left_s(pods: Sequence[PodView], deadline_s: float, now: datetime) -> float | None:
    """Seconds until the pod that progressed last is overdue; None while none has been scheduled."""
    times = [pod.progress_at for pod in pods if pod.progress_at is not None]
    return (max(times) + timedelta(seconds=deadline_s) - now).total_seconds() if times else None
