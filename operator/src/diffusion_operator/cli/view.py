"""What a reader wants to know of one DiffusionDeployment, taken out of its raw object.

Both commands show the same view: `explain` fills it from the live status, `plan` from the status that the
operator would write. Wording and layout belong to `words`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

JsonObject = Mapping[str, Any]
Verdict = Literal[
    "ready", "degraded", "suspended", "stalled", "working", "unseen", "planned", "waiting", "refused"
]


@dataclass(frozen=True)
class Condition:
    """One condition of the status."""

    type: str
    status: str
    reason: str
    message: str


@dataclass(frozen=True)
class Component:
    """A part of the pipeline: its weights in bytes and where they live."""

    name: str
    bytes: int
    placement: str


@dataclass(frozen=True)
class Alternative:
    """A candidate that lost and why. `shortfall` is bytes as text, empty when it lost otherwise."""

    layout: str
    reason: str
    shortfall: str


@dataclass(frozen=True)
class PlanView:
    """The plan of the first hardware group."""

    model: str
    mode: str
    gpus_per_replica: int
    product: str
    layout: str
    dtype: str
    device: str
    source: str
    peak: str
    free: str
    hash: str
    group: str
    seconds_per_request: float | None
    memory: tuple[Component, ...]
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]
    overrides: tuple[str, ...]
    rejected: tuple[Alternative, ...]


@dataclass(frozen=True)
class Placement:
    """Replicas of one hardware group."""

    group: str
    gpus_per_replica: int
    replicas: int
    plan_hash: str


@dataclass(frozen=True)
class View:
    """One DiffusionDeployment as a reader sees it."""

    name: str
    namespace: str
    verdict: Verdict
    message: str
    generation: int
    observed_generation: int | None
    wanted: int
    ready: int
    url: str
    plan: PlanView | None
    placements: tuple[Placement, ...] = ()
    conditions: tuple[Condition, ...] = ()


def view_of(dd: JsonObject) -> View:
    """The view of a live object; every part that is not written yet stays empty."""
    metadata, status = dd["metadata"], dd.get("status") or {}
    conditions = tuple(_condition(raw) for raw in status.get("conditions", ()))
    verdict, message = verdict_of(conditions)
    return View(
        name=metadata["name"],
        namespace=metadata.get("namespace", "default"),
        verdict=verdict,
        message=message,
        generation=metadata.get("generation", 0),
        observed_generation=status.get("observedGeneration"),
        wanted=dd.get("spec", {}).get("replicas", 1),
        ready=status.get("readyReplicas", 0),
        url=status.get("url", ""),
        plan=plan_view(status["plan"]) if status.get("plan") else None,
        placements=tuple(_placement(raw) for raw in status.get("placements", ())),
        conditions=conditions,
    )


def verdict_of(conditions: tuple[Condition, ...]) -> tuple[Verdict, str]:
    """The one word for all conditions, and the message of the condition that decided it."""
    found = {condition.type: condition for condition in conditions}
    ready = found.get("Ready")
    if ready is None:
        return "unseen", ""
    if (stalled := found.get("Stalled")) and stalled.status == "True":
        return "stalled", stalled.message
    if ready.reason == "Suspended":
        return "suspended", ready.message
    if (degraded := found.get("Degraded")) and degraded.status == "True":
        return "degraded", degraded.message
    working = found.get("Reconciling")
    if working and working.status == "True":
        return "working", working.message
    return ("ready" if ready.status == "True" else "working"), ready.message


def plan_view(raw: JsonObject) -> PlanView:
    """The view of `status.plan`."""
    return PlanView(
        model=raw.get("model", ""),
        mode=raw.get("mode", ""),
        gpus_per_replica=raw.get("gpusPerReplica", 0),
        product=raw.get("product", ""),
        layout=raw.get("layoutSummary", ""),
        dtype=_one_text(raw.get("dtype") or {}),
        device=raw.get("device", ""),
        source=raw.get("source", ""),
        peak=raw.get("peakPerGPU", ""),
        free=raw.get("freePerGPU", ""),
        hash=raw.get("hash", ""),
        group=raw.get("group", ""),
        seconds_per_request=raw.get("predictedSecondsPerRequest"),
        memory=tuple(Component(m["component"], m["bytes"], m["placement"]) for m in raw.get("memory", ())),
        reasons=tuple(raw.get("reasons", ())),
        warnings=tuple(raw.get("warnings", ())),
        overrides=tuple(raw.get("overrides", ())),
        rejected=tuple(
            Alternative(r.get("layout", ""), r.get("reason", ""), r.get("shortfall", ""))
            for r in raw.get("rejected", ())
        ),
    )


def _one_text(dtype: Mapping[str, str]) -> str:
    """One word when all components agree, else `transformer bfloat16, vae float32`."""
    if len(set(dtype.values())) == 1:
        return f"{next(iter(dtype.values()))} everywhere"
    return ", ".join(f"{component} {name}" for component, name in sorted(dtype.items()))


def _condition(raw: JsonObject) -> Condition:
    return Condition(raw["type"], raw["status"], raw.get("reason", ""), raw.get("message", ""))


def _placement(raw: JsonObject) -> Placement:
    return Placement(raw["group"], raw["gpusPerReplica"], raw["replicas"], raw["planHash"])
