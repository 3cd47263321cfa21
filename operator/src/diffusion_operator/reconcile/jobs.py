"""A Job of ours and its pods as a reader sees them: at work, done, or failed, and in whose words. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.reconcile.observe import parse_time
from diffusion_operator.render.model_jobs import BAD_INPUT_EXIT
from diffusion_operator.render.model_volume import VOLUME

State = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class JobView:
    """`text` is the last termination message, `reason` and `message` what it says; `ended`: of a failure."""

    state: State
    reason: str = "JobFailed"
    message: str = ""
    text: str = ""
    bad_input: bool = False
    ended: datetime | None = None
    retry_after_s: float | None = None
    pod_ip: str | None = None
    """Of a pod at work."""

    def in_seconds(self, left_s: float) -> JobView:
        """The same, to be tried again after so many seconds."""
        return replace(self, retry_after_s=left_s)


def outcome(job: JsonObject) -> State:
    """From the Job's own conditions."""
    states = {c["type"]: c.get("status") for c in (job.get("status") or {}).get("conditions") or ()}
    if states.get("Complete") == "True":
        return "done"
    return "failed" if states.get("Failed") == "True" else "running"


def mounts_model(job: JsonObject) -> bool:
    """Whether the API server kept the model's volume; one that does not know image volumes drops it."""
    volumes = job["spec"]["template"]["spec"].get("volumes") or ()
    return any(volume["name"] == VOLUME for volume in volumes)


def job_view(job: JsonObject, pods: Sequence[JsonObject]) -> JobView:
    """`pods` are all of the Job's, finished ones too; the newest that has ended speaks."""
    state = outcome(job)
    newest = sorted(pods, key=lambda pod: pod["metadata"].get("creationTimestamp") or "", reverse=True)
    ended = next((end for pod in newest if (end := _ended(pod))), {})
    text = str(ended.get("message") or "")
    if state == "done":
        return JobView(state, text=text)
    if state == "running":
        waits = next((words for pod in newest if (words := _waits(pod))), "")
        at_work = next((pod["status"].get("podIP") for pod in newest if _works(pod)), None)
        said = "" if at_work else _told(text).get("message", "")
        return JobView(state, message=waits or said, pod_ip=at_work)
    failure = _failure(job)
    told = _told(text)
    words = told.get("message") or text.strip()[:300] or str(failure.get("message") or "no pod said why")
    return JobView(
        state,
        reason=str(told.get("reason") or failure.get("reason") or "JobFailed"),
        message=words,
        text=text,
        bad_input=ended.get("exitCode") == BAD_INPUT_EXIT,
        ended=parse_time(failure.get("lastTransitionTime")),
    )


def _failure(job: JsonObject) -> JsonObject:
    conditions = (job.get("status") or {}).get("conditions") or ()
    return dict(next((c for c in conditions if c["type"] == "Failed"), {}))


def _ended(pod: JsonObject) -> dict[str, Any]:
    for status in (pod.get("status") or {}).get("containerStatuses") or ():
        ended = (status.get("state") or {}).get("terminated")
        if ended:
            return dict(ended)
    return {}


def _works(pod: JsonObject) -> bool:
    containers = (pod.get("status") or {}).get("containerStatuses") or ()
    return any("running" in (status.get("state") or {}) for status in containers)


def _waits(pod: JsonObject) -> str:
    """Why a pod has not started: no node, no image, no such Secret."""
    status = pod.get("status") or {}
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return f"the scheduler found no node: {condition.get('message') or 'no reason given'}"
    for container in status.get("containerStatuses") or ():
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']}: {waiting.get('message') or 'no reason given'}"
    return ""


def _told(text: str) -> dict[str, str]:
    """The engine writes one JSON object when it fails."""
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in told.items()} if isinstance(told, dict) else {}
