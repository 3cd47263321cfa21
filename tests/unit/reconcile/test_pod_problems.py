"""What a pod's status says, turned into a reason and a sentence."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from diffusion_operator.reconcile.observe import pod_views
from unit.reconcile.plans import NOW


def pod(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "pod-1", "labels": {"diffusion-operator.io/plan-hash": "aaaa"}},
        "status": status,
    }


def engine(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    container = {
        "name": "engine",
        "image": "engine:1",
        "ready": False,
        "restartCount": 2,
        "state": state,
    } | more
    return pod(phase="Running", containerStatuses=[container])


def ended(message: str = "", **more: Any) -> dict[str, Any]:
    return engine(
        {"waiting": {"reason": "CrashLoopBackOff"}}, lastState={"terminated": {"message": message} | more}
    )


TOLD = json.dumps({"reason": "CudaOutOfMemory", "message": "no memory", "phase": "denoise", "bytesAsked": 9})


@pytest.mark.parametrize(
    ("raw", "reason", "words"),
    [
        (
            engine({"waiting": {"reason": "ImagePullBackOff", "message": "back-off"}}),
            "ImagePullError",
            "engine:1",
        ),
        (
            engine({"waiting": {"reason": "CreateContainerConfigError", "message": "no key"}}),
            "CrashLoop",
            "no key",
        ),
        (
            ended('{"reason": "LayoutUnsupported", "message": "ring 2"}', exitCode=3),
            "LayoutUnsupported",
            "ring 2",
        ),
        (ended(TOLD, exitCode=1), "CudaOutOfMemory", "no memory (phase denoise, bytesAsked 9)"),
        (ended("", exitCode=137, reason="OOMKilled"), "HostOOMKilled", "host memory"),
        (ended("Traceback: boom", exitCode=1), "CrashLoop", "exit code 1 after 2 restarts: Traceback: boom"),
        (ended('{"reason": "Whatever", "message": "odd"}', exitCode=1), "CrashLoop", "odd"),
        (ended("[1, 2]", exitCode=1), "CrashLoop", "[1, 2]"),
    ],
)
def test_a_container_that_does_not_run_has_a_reason(raw: dict[str, Any], reason: str, words: str) -> None:
    (view,) = pod_views([raw], NOW)
    assert view.problem is not None
    assert view.problem.reason == reason
    assert words in view.problem.message


def test_a_container_that_loads_for_the_first_time_has_no_problem() -> None:
    (view,) = pod_views([engine({"running": {}}, restartCount=0)], NOW)
    assert view.problem is None


@pytest.mark.parametrize(("age_s", "reason", "recheck_s"), [(5, None, 25.0), (31, "Unschedulable", None)])
def test_unschedulable_counts_after_30_seconds(
    age_s: int, reason: str | None, recheck_s: float | None
) -> None:
    since = (NOW - timedelta(seconds=age_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available",
        "lastTransitionTime": since,
    }
    (view,) = pod_views([pod(phase="Pending", conditions=[condition])], NOW)
    assert (view.problem.reason if view.problem else None) == reason
    assert view.recheck_after_s == recheck_s


def test_terminating_and_finished_pods_are_not_counted() -> None:
    leaving = pod(phase="Running")
    leaving["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
    assert pod_views([leaving, pod(phase="Failed")], NOW) == ()


def fetching(state: dict[str, Any], **more: Any) -> dict[str, Any]:
    container = {"name": "fetch", "image": "engine:1", "restartCount": 0, "state": state} | more
    raw = pod(phase="Pending", initContainerStatuses=[container])
    raw["metadata"]["creationTimestamp"] = "2026-11-24T00:00:00Z"
    raw["spec"] = {"nodeName": "n"}
    return raw


SAID = json.dumps({"reason": "RateLimited", "message": "the hub says 429", "phase": "fetch"})
MISSING = {"reason": "CreateContainerConfigError", "message": 'secret "hub-token" not found'}


@pytest.mark.parametrize(
    ("raw", "reason", "words"),
    [
        (fetching({"terminated": {"exitCode": 1, "message": SAID}}), "RateLimited", "the hub says 429"),
        (
            fetching(
                {"waiting": {"reason": "CrashLoopBackOff"}},
                lastState={"terminated": {"exitCode": 1, "message": SAID}},
            ),
            "RateLimited",
            "pod pod-1 cannot fetch the model",
        ),
        (fetching({"waiting": MISSING}), "CrashLoop", 'secret "hub-token" not found'),
        (fetching({"waiting": {"reason": "ErrImagePull", "message": "no"}}), "ImagePullError", "engine:1"),
        (fetching({"terminated": {"exitCode": 137}}), "CrashLoop", "exit code 137"),
    ],
)
def test_a_fetch_that_does_not_get_on_has_a_reason(raw: dict[str, Any], reason: str, words: str) -> None:
    (view,) = pod_views([raw], NOW)
    assert view.problem is not None
    assert view.problem.reason == reason
    assert words in view.problem.message


def test_a_fetch_that_runs_gets_on() -> None:
    (view,) = pod_views([fetching({"running": {"startedAt": "2026-11-24T00:00:05Z"}})], NOW)
    assert (view.problem, view.progress_at) == (None, NOW)
