"""What the children and pods of one DiffusionDeployment show, read from raw objects.

Pure but for `read_reports`. It names facts and failures; what they mean for the conditions is decided in
`conditions`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from diffusion_operator.api.names import LABEL_GROUP, LABEL_PLAN_HASH
from diffusion_operator.kube.reports import ReportReader, ReportUnavailable
from diffusion_operator.kube.resources import JsonObject
from diffusion_runtime.planning.documents import EngineReport

ENGINE_CONTAINER = "engine"
FETCH_CONTAINER = "fetch"
UNSCHEDULABLE_AFTER_S = 30.0
# kubelet forgets a container's crashes when it ran for so long.
CRASH_MEMORY_S = 600.0
CRASH_LOOP_RESTARTS = 2

# Reasons that an engine may give for its end; anything else it says is a CrashLoop with its words.
STALLED_REASONS = frozenset(
    {
        "InvalidSpec",
        "LayoutUnsupported",
        "NoUsableGpu",
        "PlanMismatch",
        "UnknownModel",
        "UnknownHardware",
        "NotSupportedYet",
    }
)
ENGINE_REASONS = STALLED_REASONS | {
    "CudaOutOfMemory",
    "InsufficientMemory",
    "InsufficientHostMemory",
    "HostOOMKilled",
}
IMAGE_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
CONTAINER_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


@dataclass(frozen=True)
class DeploymentView:
    """One Deployment of ours. Counts are pods."""

    name: str
    group: str
    plan_hash: str
    wanted: int
    existing: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0
    observed: bool = False
    is_available: bool = False
    deadline_exceeded: bool = False
    pods_refused: bool = False
    """The API server refused to create a pod: a quota that is used up, or an admission policy."""

    @property
    def settled(self) -> bool:
        """The controller has seen the last change and every pod is of the last template and available."""
        return (
            self.observed
            and self.updated == self.wanted
            and self.existing == self.wanted
            and self.available == self.wanted
        )


@dataclass(frozen=True)
class PodView:
    """One engine pod that is not terminating."""

    name: str
    plan_hash: str
    ready: bool
    ip: str | None
    problem: PodProblem | None = None
    recheck_after_s: float | None = None
    group: str = ""
    image: str | None = None
    restarts: int = 0
    progress_at: datetime | None = None
    """When it was scheduled or its engine first started, whichever is later; None while it has no node."""
    homeless_since: datetime | None = None
    """Since when it has no node: in the scheduler's words, or since it was made where no scheduler speaks."""


@dataclass(frozen=True)
class PodProblem:
    """Why a pod does not run. `reason` is one of the condition reasons.

    `executing` is the plan or fallback that the engine tried last, where it says so.
    """

    reason: str
    message: str
    executing: str | None = None

    @property
    def stalled(self) -> bool:
        """Whether only a change of spec, image or hardware can help."""
        return self.reason in STALLED_REASONS


@dataclass(frozen=True)
class Observation:
    """All that is seen of one DiffusionDeployment's children."""

    deployments: tuple[DeploymentView, ...] = ()
    pods: tuple[PodView, ...] = ()
    reports: dict[str, EngineReport] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)

    @property
    def serving(self) -> int:
        """Pods that are ready, whatever plan they follow."""
        return sum(1 for pod in self.pods if pod.ready)


def deployment_view(raw: JsonObject) -> DeploymentView:
    """Project a raw Deployment of ours."""
    metadata, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status") or {}
    template_labels = spec.get("template", {}).get("metadata", {}).get("labels") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    return DeploymentView(
        name=metadata["name"],
        group=(metadata.get("labels") or {}).get(LABEL_GROUP, ""),
        plan_hash=template_labels.get(LABEL_PLAN_HASH, ""),
        wanted=spec.get("replicas", 1),
        existing=status.get("replicas", 0),
        updated=status.get("updatedReplicas", 0),
        ready=status.get("readyReplicas", 0),
        available=status.get("availableReplicas", 0),
        observed=status.get("observedGeneration", 0) >= metadata.get("generation", 1),
        is_available=conditions.get("Available", {}).get("status") == "True",
        deadline_exceeded=conditions.get("Progressing", {}).get("reason") == "ProgressDeadlineExceeded",
        pods_refused=conditions.get("ReplicaFailure", {}).get("status") == "True",
    )


def pod_views(raws: Iterable[JsonObject], now: datetime) -> tuple[PodView, ...]:
    """Project raw pods, leaving out those that are terminating or finished; sorted by name."""
    views = [
        _pod_view(raw, now)
        for raw in raws
        if "deletionTimestamp" not in raw["metadata"]
        and raw.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]
    return tuple(sorted(views, key=lambda view: view.name))


async def read_reports(
    pods: Iterable[PodView], reader: ReportReader
) -> tuple[dict[str, EngineReport], dict[str, str]]:
    """Reports of the ready pods, and for each pod without one a sentence that says why."""
    return await ask(reader, [pod for pod in pods if pod.ready and pod.ip is not None])


async def ask(
    reader: ReportReader, ready: Sequence[PodView]
) -> tuple[dict[str, EngineReport], dict[str, str]]:
    """Reports of these pods, which have addresses."""
    answers = await asyncio.gather(*(_read_one(reader, pod.ip or "") for pod in ready))
    reports: dict[str, EngineReport] = {}
    unread: dict[str, str] = {}
    for pod, answer in zip(ready, answers, strict=True):
        if isinstance(answer, EngineReport):
            reports[pod.name] = answer
        else:
            unread[pod.name] = answer
    return reports, unread


async def _read_one(reader: ReportReader, ip: str) -> EngineReport | str:
    try:
        return await reader.read(ip)
    except ReportUnavailable as error:
        return str(error)


def _pod_view(raw: JsonObject, now: datetime) -> PodView:
    metadata, status = raw["metadata"], raw.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = {c.get("type"): c for c in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    problem, recheck_after_s = _scheduling_problem(scheduled, now)
    engine, fetch = _engine_of(status), _fetch_of(status)
    if problem is None:
        problem = _fetch_problem(metadata["name"], fetch)
    if problem is None:
        problem, crash_recheck_s = _container_problem(metadata["name"], engine, now)
        recheck_after_s = recheck_after_s if crash_recheck_s is None else crash_recheck_s
    return PodView(
        name=metadata["name"],
        plan_hash=labels.get(LABEL_PLAN_HASH, ""),
        ready=conditions.get("Ready", {}).get("status") == "True",
        ip=status.get("podIP"),
        problem=problem,
        recheck_after_s=recheck_after_s,
        group=labels.get(LABEL_GROUP, ""),
        image=_image_of(raw),
        restarts=engine.get("restartCount", 0),
        # The fetch ends by itself when its source goes silent: while it runs, it gets on.
        progress_at=now if "running" in (fetch.get("state") or {}) else _progress_at(raw, scheduled, engine),
        homeless_since=_homeless_since(raw, scheduled),
    )


def _engine_of(status: JsonObject) -> JsonObject:
    """Status of the engine's container; empty before kubelet has one."""
    found = (c for c in status.get("containerStatuses") or () if c.get("name") == ENGINE_CONTAINER)
    return dict(next(found, {}))


def _fetch_of(status: JsonObject) -> JsonObject:
    """Status of the init container that fetches the model; empty where there is none."""
    found = (c for c in status.get("initContainerStatuses") or () if c.get("name") == FETCH_CONTAINER)
    return dict(next(found, {}))


def _fetch_problem(pod_name: str, fetch: JsonObject) -> PodProblem | None:
    """Why the model does not come to the pod, in the words of the fetch."""
    state = fetch.get("state") or {}
    waiting = state.get("waiting") or {}
    if waiting.get("reason") in IMAGE_REASONS:
        return PodProblem("ImagePullError", f"image {fetch.get('image')}: {waiting.get('message') or ''}")
    if waiting.get("reason") in CONTAINER_REASONS:
        words = waiting.get("message") or waiting["reason"]
        return PodProblem("CrashLoop", f"pod {pod_name} cannot start its fetch: {words}")
    ended = state.get("terminated") or (fetch.get("lastState") or {}).get("terminated") or {}
    if not ended or ended.get("exitCode") == 0 or "running" in state:
        return None
    told = _termination_message(ended.get("message"))
    words = told.get("message") or f"exit code {ended.get('exitCode')} without a word"
    return PodProblem(
        str(told.get("reason") or "CrashLoop"), f"pod {pod_name} cannot fetch the model: {words}"
    )


def _image_of(raw: JsonObject) -> str | None:
    """The image that the pod asks for; a status may name it otherwise."""
    containers = (raw.get("spec") or {}).get("containers") or ()
    return next((c.get("image") for c in containers if c.get("name") == ENGINE_CONTAINER), None)


def _progress_at(raw: JsonObject, scheduled: JsonObject, engine: JsonObject) -> datetime | None:
    """The last sign of progress that the API server holds; a restarted engine gives none."""
    if not (raw.get("spec") or {}).get("nodeName"):
        return None
    started = (engine.get("state") or {}).get("running") or {}
    signs = [
        parse_time(raw["metadata"].get("creationTimestamp")),
        parse_time(scheduled.get("lastTransitionTime")) if scheduled.get("status") == "True" else None,
        parse_time(started.get("startedAt")) if not engine.get("restartCount", 0) else None,
    ]
    return max((sign for sign in signs if sign is not None), default=None)


def _homeless_since(raw: JsonObject, scheduled: JsonObject) -> datetime | None:
    """None for a pod that has a node. A scheduler that is away, or of another kind, writes no condition."""
    if (raw.get("spec") or {}).get("nodeName"):
        return None
    said = scheduled.get("lastTransitionTime") if scheduled.get("reason") == "Unschedulable" else None
    return parse_time(said) or parse_time(raw["metadata"].get("creationTimestamp"))


def _scheduling_problem(condition: dict[str, Any], now: datetime) -> tuple[PodProblem | None, float | None]:
    """Unschedulable for 30 s is a problem; before that, the seconds after which to look again."""
    if condition.get("status") != "False" or condition.get("reason") != "Unschedulable":
        return None, None
    since = parse_time(condition.get("lastTransitionTime")) or now
    left = timedelta(seconds=UNSCHEDULABLE_AFTER_S) - (now - since)
    if left > timedelta(0):
        return None, left.total_seconds()
    message = condition.get("message") or "no node takes the pod"
    return PodProblem("Unschedulable", f"the scheduler found no node: {message}"), None


def _container_problem(
    pod_name: str, engine: JsonObject, now: datetime
) -> tuple[PodProblem | None, float | None]:
    """Why the engine does not run, and the seconds after which a crash is forgiven."""
    if not engine:
        return None, None
    state, restarts = engine.get("state") or {}, engine.get("restartCount", 0)
    waiting = state.get("waiting") or {}
    reason, text = waiting.get("reason", ""), waiting.get("message") or ""
    if reason in IMAGE_REASONS:
        return PodProblem("ImagePullError", f"image {engine.get('image')}: {text or reason}"), None
    if reason in CONTAINER_REASONS:
        return PodProblem("CrashLoop", f"pod {pod_name} cannot start its container: {text or reason}"), None
    ended = state.get("terminated") or (engine.get("lastState") or {}).get("terminated")
    if not ended:
        return None, None
    if engine.get("ready"):
        # Ready between two crashes is not ready: it would be taken for a recovery each time.
        left_s = _crash_memory_left_s(ended, now)
        if restarts < CRASH_LOOP_RESTARTS or left_s <= 0:
            return None, None
        return _end_problem(pod_name, ended, restarts), left_s
    return _end_problem(pod_name, ended, restarts), None


def _crash_memory_left_s(ended: JsonObject, now: datetime) -> float:
    finished = parse_time(ended.get("finishedAt"))
    return CRASH_MEMORY_S - (now - finished).total_seconds() if finished else 0.0


def _end_problem(pod_name: str, ended: dict[str, Any], restarts: int) -> PodProblem | None:
    told = _termination_message(ended.get("message"))
    reason, text = str(told.get("reason", "")), str(told.get("message") or "")
    if reason in ENGINE_REASONS:
        executing = told.get("executingHash")
        words = f"pod {pod_name}: {text or reason}{_numbers(told)}"
        return PodProblem(reason, words, executing if isinstance(executing, str) else None)
    if ended.get("reason") == "OOMKilled":
        return PodProblem(
            "HostOOMKilled", f"pod {pod_name} used more host memory than its limit and was killed"
        )
    code = ended.get("exitCode")
    if code == 0 and restarts == 0:
        return None
    words = text or reason or str(ended.get("message") or "").strip()[:300] or "no termination message"
    return PodProblem(
        "CrashLoop", f"pod {pod_name} ended with exit code {code} after {restarts} restarts: {words}"
    )


def _numbers(told: dict[str, Any]) -> str:
    facts = [
        f"{key} {told[key]}" for key in ("phase", "bytesAsked", "bytesFree") if told.get(key) is not None
    ]
    return f" ({', '.join(facts)})" if facts else ""


def _termination_message(text: Any) -> dict[str, Any]:
    """The engine writes one JSON object; anything else counts as plain words."""
    try:
        told = json.loads(text) if isinstance(text, str) else None
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def parse_time(text: Any) -> datetime | None:
    """An RFC 3339 time of the API server, None when absent."""
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if isinstance(text, str) else None
