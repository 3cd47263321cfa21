"""The conditions of one DiffusionDeployment, from what was decided and what is seen. Pure.

They follow kstatus (kubernetes-sigs/cli-utils, pkg/kstatus): Ready says whether the current spec serves;
Reconciling and Stalled are true only when something is abnormal, and never both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.placement.decision import GroupDecision, Refusal
from diffusion_operator.reconcile.loading_forecast import loading_forecast
from diffusion_operator.reconcile.observe import DeploymentView, Observation, PodProblem

READY, RECONCILING, STALLED = "Ready", "Reconciling", "Stalled"
PLANNED, MODEL_CACHED, DEGRADED = "Planned", "ModelCached", "Degraded"

LONGEST_MESSAGE = 4096  # what the CRD schema admits


@dataclass(frozen=True)
class ModelCondition:
    """Whether the model's files are where pods read them; `cached` None: each pod fetches for itself."""

    cached: bool | None
    reason: str
    message: str


BUILT_IN = ModelCondition(True, "Ready", "the model is part of the engine image")


@dataclass(frozen=True)
class Situation:
    """Everything the status depends on. `wanted` is spec.replicas; `warnings` change no condition."""

    observation: Observation
    groups: tuple[GroupDecision, ...] = ()
    refusal: Refusal | None = None
    suspended: bool = False
    wanted: int = 1
    model: ModelCondition = field(default_factory=lambda: BUILT_IN)
    to_come: GroupDecision | None = None
    """What is decided and waits for the model's files."""
    warnings: tuple[str, ...] = ()
    wish: str = ""
    progressing: bool = False

    @property
    def gone_back(self) -> GroupDecision | None:
        """A group that runs an earlier plan because the one of the present spec or engine failed."""
        return next((group for group in self.groups if group.rolled_back), None)

    @property
    def other_wish(self) -> bool:
        """Whether what was gone back to was made for another spec, so that the present one is not served."""
        return any(group.rolled_back and group.wish != self.wish for group in self.groups)


@dataclass(frozen=True)
class Condition:
    """One condition without its times."""

    type: str
    status: bool
    reason: str
    message: str


@dataclass(frozen=True)
class _Serving:
    """Ready pods of the decided plans by what their engine says it runs."""

    exact: int
    fallback: tuple[str, ...]
    mismatch: tuple[str, ...]


def conditions_of(situation: Situation) -> tuple[Condition, ...]:
    """All six conditions in a fixed order."""
    serving = _serving(situation)
    problem = _problem(situation)
    stalled = _stalled(situation, serving, problem)
    return (
        _ready(situation, serving, problem),
        _reconciling(situation, serving, problem, stalled),
        stalled,
        _planned(situation),
        _model_cached(situation),
        _degraded(situation, serving, problem),
    )


def with_times(
    conditions: Sequence[Condition], previous: Sequence[JsonObject], generation: int, now: datetime
) -> list[JsonObject]:
    """Wire form. `lastTransitionTime` moves only when a condition's status changes."""
    before = {condition.get("type"): condition for condition in previous}
    stamp = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    result = []
    for condition in conditions:
        status = "True" if condition.status else "False"
        old = before.get(condition.type, {})
        kept = old.get("lastTransitionTime") if old.get("status") == status else None
        result.append(
            {
                "type": condition.type,
                "status": status,
                "reason": condition.reason,
                "message": condition.message[:LONGEST_MESSAGE],
                "observedGeneration": generation,
                "lastTransitionTime": kept or stamp,
            }
        )
    return result


def _ready(situation: Situation, serving: _Serving, problem: PodProblem | None) -> Condition:
    refusal = situation.refusal
    if refusal is not None and not situation.groups:
        return Condition(READY, False, refusal.reason, _refusal_message(refusal, situation.observation))
    if _asked_for_nothing(situation):
        return Condition(READY, False, "Suspended", _suspended_message(situation))
    good = serving.exact + len(serving.fallback)
    if situation.other_wish:
        return Condition(READY, False, "RolledBack", _gone_back_message(situation, good))
    if good and any(view.is_available for view in _current(situation)):
        return Condition(READY, True, "Ready", f"{_of_wanted(good, situation.wanted)} ready")
    if serving.mismatch:
        return Condition(READY, False, "PlanMismatch", serving.mismatch[0])
    if refusal is not None and refusal.reason == "WaitingForNodes":
        return Condition(READY, False, refusal.reason, refusal.message)
    if problem is not None:
        return Condition(READY, False, problem.reason, problem.message)
    return Condition(READY, False, "Progressing", _progress_message(situation))


def _reconciling(
    situation: Situation, serving: _Serving, problem: PodProblem | None, stalled: Condition
) -> Condition:
    if stalled.status:
        return Condition(RECONCILING, False, stalled.reason, "nothing changes until the cause is removed")
    if situation.refusal is not None:
        return Condition(RECONCILING, True, situation.refusal.reason, situation.refusal.message)
    if _asked_for_nothing(situation):
        leaving = sum(view.existing for view in situation.observation.deployments)
        if leaving:
            return Condition(RECONCILING, True, "Progressing", f"{_count(leaving, 'pod')} still to end")
        return Condition(RECONCILING, False, "Suspended", "nothing to do")
    if _all_settled(situation) and serving.exact + len(serving.fallback) and problem is None:
        return Condition(RECONCILING, False, "Ready", "everything is as decided")
    if problem is not None:
        return Condition(RECONCILING, True, problem.reason, problem.message)
    return Condition(RECONCILING, True, "Progressing", _progress_message(situation))


def _stalled(situation: Situation, serving: _Serving, problem: PodProblem | None) -> Condition:
    refusal = situation.refusal
    if refusal is not None and refusal.stalled:
        return Condition(STALLED, True, refusal.reason, refusal.message)
    if situation.other_wish:
        good = serving.exact + len(serving.fallback)
        return Condition(STALLED, True, "RolledBack", _gone_back_message(situation, good))
    if serving.mismatch and not serving.exact:
        return Condition(STALLED, True, "PlanMismatch", serving.mismatch[0])
    dead_end = next((group.failed for group in situation.groups if group.failed), None)
    if dead_end is not None and not serving.exact + len(serving.fallback):
        words = f"{dead_end.message}; no leaner plan is allowed or left, and none served before"
        return Condition(STALLED, True, dead_end.reason, words)
    if problem is not None and problem.stalled:
        return Condition(STALLED, True, problem.reason, problem.message)
    waits = refusal is not None and refusal.reason == "WaitingForNodes"
    late = [v for v in _current(situation) if v.deadline_exceeded and not (waits or situation.progressing)]
    if late:
        reason = problem.reason if problem is not None else "Progressing"
        words = problem.message if problem is not None else "no new pod became ready in time"
        return Condition(
            STALLED, True, reason, f"Deployment {late[0].name} passed its progress deadline: {words}"
        )
    return Condition(STALLED, False, "Progressing" if refusal else "Ready", "nothing blocks")


def _planned(situation: Situation) -> Condition:
    first = situation.groups[0] if situation.groups else situation.to_come
    if first is not None:
        count = _count(first.plan.gpus_per_replica, "GPU")
        return Condition(
            PLANNED, True, "Planned", f"{count} of {first.product} per replica, plan {first.plan.hash}"
        )
    refusal = situation.refusal
    if refusal is not None:
        return Condition(PLANNED, False, refusal.reason, refusal.message)
    return Condition(PLANNED, False, "Suspended", "no replicas were asked for")


def _model_cached(situation: Situation) -> Condition:
    model = situation.model
    if model.cached is not None:
        return Condition(MODEL_CACHED, model.cached, model.reason, model.message)
    ready = situation.observation.serving
    if ready:
        return Condition(MODEL_CACHED, True, "Ready", f"{_count(ready, 'pod')} fetched it: {model.message}")
    return Condition(MODEL_CACHED, False, model.reason, model.message)


def _degraded(situation: Situation, serving: _Serving, problem: PodProblem | None) -> Condition:
    good = serving.exact + len(serving.fallback)
    if situation.gone_back is not None:
        return Condition(DEGRADED, True, "RolledBack", _gone_back_message(situation, good))
    leaner = next((group for group in situation.groups if group.downgraded_from), None)
    if leaner is not None:
        words = f"plan {leaner.downgraded_from} ran out of memory; its fallback {leaner.plan.hash} takes over"
        return Condition(DEGRADED, True, "Downgraded", f"{words}: {leaner.plan.reasons[0]}")
    if serving.fallback:
        pods = ", ".join(serving.fallback)
        words = (
            "executes a fallback of its plan"
            if len(serving.fallback) == 1
            else "execute fallbacks of their plan"
        )
        return Condition(DEGRADED, True, "FallbackActive", f"{pods} {words}: the plan itself did not fit")
    if serving.mismatch and serving.exact:
        return Condition(DEGRADED, True, "PlanMismatch", serving.mismatch[0])
    if problem is not None and serving.exact:
        return Condition(DEGRADED, True, problem.reason, problem.message)
    unlabelled = [words for group in situation.groups for words in group.unlabelled]
    if unlabelled:
        words = f"node {'; node '.join(unlabelled)}; its pods keep serving, and no new pod is placed there"
        return Condition(DEGRADED, True, "UnknownHardware", f"{words} until the label is back")
    return Condition(DEGRADED, False, "Ready", "no serving pod deviates from its plan")


def _serving(situation: Situation) -> _Serving:
    plans = {group.plan.hash: group.plan for group in situation.groups}
    exact, fallback, mismatch = 0, [], []
    for pod in situation.observation.pods:
        report = situation.observation.reports.get(pod.name)
        plan = plans.get(pod.plan_hash)
        if report is None or plan is None or pod.problem is not None:
            continue
        if report.plan_hash != plan.hash:
            mismatch.append(f"pod {pod.name} was given plan {plan.hash} but reports plan {report.plan_hash}")
        elif report.executing_hash == plan.hash:
            exact += 1
        elif report.executing_hash in {alternative.hash for alternative in plan.fallbacks}:
            fallback.append(f"pod {pod.name}")
        else:
            mismatch.append(
                f"pod {pod.name} executes {report.executing_hash}, "
                f"neither plan {plan.hash} nor one of its fallbacks"
            )
    return _Serving(exact, tuple(fallback), tuple(mismatch))


def _problem(situation: Situation) -> PodProblem | None:
    """The worst problem among pods of the decided plans: a stalled one first, then in order of pod names."""
    hashes = {group.plan.hash for group in situation.groups}
    found = [pod.problem for pod in situation.observation.pods if pod.problem and pod.plan_hash in hashes]
    return next((problem for problem in found if problem.stalled), found[0] if found else None)


def _current(situation: Situation) -> list[DeploymentView]:
    hashes = {(group.name, group.plan.hash) for group in situation.groups}
    return [view for view in situation.observation.deployments if (view.group, view.plan_hash) in hashes]


def _all_settled(situation: Situation) -> bool:
    views = situation.observation.deployments
    return len(views) == len(situation.groups) == len(_current(situation)) and all(v.settled for v in views)


def _asked_for_nothing(situation: Situation) -> bool:
    return situation.suspended or situation.wanted == 0


def _suspended_message(situation: Situation) -> str:
    if situation.suspended:
        return "spec.suspend is true: planned, but no pods run"
    return "spec.replicas is 0: no pods run"


def _progress_message(situation: Situation) -> str:
    observation = situation.observation
    if observation.unread:
        pod, why = next(iter(sorted(observation.unread.items())))
        return f"pod {pod} is ready but gave no report yet: {why}"
    updated = sum(view.available for view in _current(situation))
    leaving = sum(max(0, view.existing - view.updated) for view in observation.deployments)
    tail = f", {_count(leaving, 'pod')} of an earlier plan still to end" if leaving else ""
    forecast = loading_forecast(situation.groups, observation.pods)
    tail += f"; {forecast}" if forecast else ""
    return f"{_of_wanted(min(updated, situation.wanted), situation.wanted)} available{tail}"


def _gone_back_message(situation: Situation, good: int) -> str:
    group = situation.gone_back
    failed = group.rolled_back if group else None
    if group is None or failed is None:
        return ""
    pods = f"{_of_wanted(good, situation.wanted)} of plan {group.plan.hash}, which was ready before, serve"
    again = "it is tried again when spec, engine version or hardware change"
    return f"plan {failed.plan_hash} failed ({failed.reason}): {failed.message.rstrip('.')}; {pods}; {again}"


def _refusal_message(refusal: Refusal, observation: Observation) -> str:
    if not observation.serving:
        return refusal.message
    keeps = "keeps" if observation.serving == 1 else "keep"
    pods = _count(observation.serving, "pod")
    return f"{refusal.message.rstrip('.')}; {pods} of the previous plan {keeps} serving"


def _of_wanted(number: int, wanted: int) -> str:
    return f"{number} of {_count(wanted, 'replica')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
