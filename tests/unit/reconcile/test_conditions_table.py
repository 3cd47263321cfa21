"""Every situation and the conditions that it must give."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from diffusion_operator.api.status import CONDITION_TYPES, REASONS
from diffusion_operator.placement.decision import Refusal
from diffusion_operator.reconcile.conditions import Condition, Situation, conditions_of, with_times
from diffusion_operator.reconcile.observe import DeploymentView, Observation, PodProblem, PodView
from unit.reconcile.plans import NOW, group, plan, report

PLAN = plan(fallback="bbbbbbbbbbbb")
GROUP = group(PLAN)
SERVING = DeploymentView(
    "demo-h200",
    "h200",
    PLAN.hash,
    1,
    existing=1,
    updated=1,
    ready=1,
    available=1,
    observed=True,
    is_available=True,
)
STARTING = replace(SERVING, ready=0, available=0, is_available=False)
POD = PodView("pod-1", PLAN.hash, ready=True, ip="10.0.0.1")
READY = Situation(Observation((SERVING,), (POD,), {"pod-1": report(PLAN)}), (GROUP,))
WAITS = Refusal("InsufficientGPUs", "2 GPUs are needed, 1 is free", stalled=False)
WRONG = Refusal("InvalidSpec", "spec.performance.bias: 7 is not between 0 and 1", stalled=True)


def seen(deployment: DeploymentView, reason: str | None = None) -> Situation:
    problem = None if reason is None else PodProblem(reason, "the pod ended")
    pod = replace(POD, ready=False, problem=problem)
    return Situation(Observation((deployment,), (pod,)), (GROUP,))


def executing(digest: str) -> Situation:
    return Situation(Observation((SERVING,), (POD,), {"pod-1": report(PLAN, digest)}), (GROUP,))


TABLE = {
    "serving": (READY, "Ready", None, None, None),
    "new": (Situation(Observation((), ()), (GROUP,)), "!Progressing", "Progressing", None, None),
    "starting": (seen(STARTING), "!Progressing", "Progressing", None, None),
    "waits": (Situation(Observation(), (), WAITS), "!InsufficientGPUs", "InsufficientGPUs", None, None),
    "some wait": (replace(READY, refusal=WAITS, wanted=2), "Ready", "InsufficientGPUs", None, None),
    "wrong spec": (Situation(Observation(), (), WRONG), "!InvalidSpec", None, "InvalidSpec", None),
    "wrong spec, old pods": (
        replace(READY, groups=(), refusal=WRONG), "!InvalidSpec", None, "InvalidSpec", None
    ),
    "suspended": (Situation(Observation(), (GROUP,), suspended=True), "!Suspended", None, None, None),
    "suspending": (replace(READY, suspended=True), "!Suspended", "Progressing", None, None),
    "scaled to zero": (Situation(Observation(), (), wanted=0), "!Suspended", None, None, None),
    "fallback": (executing("bbbbbbbbbbbb"), "Ready", None, None, "FallbackActive"),
    "neither": (executing("cccccccccccc"), "!PlanMismatch", None, "PlanMismatch", None),
    "ready pod without a report": (
        Situation(Observation((SERVING,), (POD,), {}, {"pod-1": "no answer"}), (GROUP,)),
        "!Progressing", "Progressing", None, None,
    ),
    "image": (seen(STARTING, "ImagePullError"), "!ImagePullError", "ImagePullError", None, None),
    "killed": (seen(STARTING, "HostOOMKilled"), "!HostOOMKilled", "HostOOMKilled", None, None),
    "no GPU": (seen(STARTING, "NoUsableGpu"), "!NoUsableGpu", None, "NoUsableGpu", None),
    "late": (seen(replace(STARTING, deadline_exceeded=True)), "!Progressing", None, "Progressing", None),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_a_situation_gives_these_conditions(name: str) -> None:
    situation, ready, reconciling, stalled, degraded = TABLE[name]
    found = {condition.type: condition for condition in conditions_of(situation)}
    assert tuple(found) == CONDITION_TYPES
    assert (found["Ready"].status, found["Ready"].reason) == (not ready.startswith("!"), ready.lstrip("!"))
    for kind, expected in (("Reconciling", reconciling), ("Stalled", stalled), ("Degraded", degraded)):
        assert (found[kind].reason if found[kind].status else None) == expected, kind
    assert not (found["Reconciling"].status and found["Stalled"].status)
    assert {condition.reason for condition in found.values()} <= set(REASONS)
    assert all(condition.message for condition in found.values())


def test_a_refusal_says_who_keeps_serving() -> None:
    ready = conditions_of(replace(READY, groups=(), refusal=WRONG))[0]
    assert ready.message == f"{WRONG.message}; 1 pod of the previous plan keeps serving"


def test_a_pod_that_starts_says_what_it_reads_and_how_long_that_takes() -> None:
    pod = replace(POD, group="h200", ready=False)
    reads = replace(GROUP, files_bytes=60 * 2**30)
    starting = Situation(Observation((STARTING,), (pod,)), (reads,))
    words = "0 of 1 replica available; a pod reads 60.0GiB of weights, about 64 s at 1 GB/s"
    ready, reconciling, stalled, *_ = conditions_of(starting)
    assert (ready.message, reconciling.message) == (words, words)
    assert not stalled.status  # it is told and never held against anybody


@pytest.mark.parametrize(
    ("pod", "files_bytes"),
    [
        (replace(POD, group="h200", ready=False), 0),  # part of the engine image
        (replace(POD, group="h200", ready=False, ip=None), 1 << 30),  # has no node yet
        (replace(POD, group="h200", ready=False, plan_hash="old"), 1 << 30),
        (replace(POD, group="a100", ready=False), 1 << 30),
    ],
    ids=["built in", "waits", "of an earlier plan", "of another group"],
)
def test_a_pod_that_reads_nothing_now_has_no_forecast(pod: PodView, files_bytes: int) -> None:
    reads = replace(GROUP, files_bytes=files_bytes)
    ready = conditions_of(Situation(Observation((STARTING,), (pod,)), (reads,)))[0]
    assert ready.message == "0 of 1 replica available"


def test_transition_times_move_only_with_the_status() -> None:
    first = with_times([Condition("Ready", False, "Progressing", "0 of 1")], [], 1, NOW)
    later = NOW + timedelta(minutes=5)
    same = with_times([Condition("Ready", False, "CrashLoop", "ended")], first, 2, later)
    assert same[0]["lastTransitionTime"] == first[0]["lastTransitionTime"] == "2026-11-24T12:00:00Z"
    assert same[0]["observedGeneration"] == 2
    turned = with_times([Condition("Ready", True, "Ready", "1 of 1")], same, 2, later)
    assert turned[0]["lastTransitionTime"] == "2026-11-24T12:05:00Z"
