"""Kubernetes Events on change: a decision, a refusal, a failure, a recovery. Nothing on what merely stays.

What changed is read from the status that is about to be replaced, so a restart posts nothing twice. The name
of an Event is made of its content: a repeat meets the first one and becomes its series.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from diffusion_operator.api.names import GROUP_VERSION, KIND
from diffusion_operator.kube.resources import EVENTS, JsonObject

REPORTING_CONTROLLER = "diffusion-operator.io/operator"
LONGEST_NOTE = 1024  # bytes; whoever writes other letters has fewer of them
QUIET_REASONS = frozenset({"Ready", "Planned", "Progressing", "Suspended"})


@dataclass(frozen=True)
class Change:
    """One thing worth telling."""

    type: Literal["Normal", "Warning"]
    reason: str
    action: str
    note: str


def changes(before: JsonObject, after: JsonObject) -> list[Change]:
    """What is new in status `after` compared with status `before`."""
    found: list[Change] = []
    plan = after.get("plan") or {}
    if plan.get("hash") and plan.get("hash") != (before.get("plan") or {}).get("hash"):
        found.append(Change("Normal", "Planned", "Plan", _decision_note(plan)))
    reported: set[str] = set()
    for kind, bad in (("Ready", "False"), ("Stalled", "True"), ("Reconciling", "True"), ("Degraded", "True")):
        old, new = _condition(before, kind), _condition(after, kind)
        reason = new.get("reason", "")
        if new.get("status") != bad or reason in QUIET_REASONS or reason in reported:
            continue
        reported.add(reason)
        if not _told_before(before, reason) or (
            # A new spec that is refused for the same reason is a new refusal.
            kind in ("Ready", "Stalled") and old.get("observedGeneration") != new.get("observedGeneration")
        ):
            found.append(Change("Warning", reason, "Reconcile", new.get("message", "")))
    if _condition(after, "Ready").get("status") == "True" != _condition(before, "Ready").get("status"):
        found.append(Change("Normal", "Ready", "Reconcile", _condition(after, "Ready").get("message", "")))
    return found


def event_manifest(metadata: JsonObject, name: str, change: Change, instance: str, stamp: str) -> JsonObject:
    """The events.k8s.io/v1 Event of this name about the DiffusionDeployment with this metadata."""
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "eventTime": stamp,
        "type": change.type,
        "reason": change.reason,
        "action": change.action,
        "note": change.note.encode()[:LONGEST_NOTE].decode(errors="ignore"),
        "reportingController": REPORTING_CONTROLLER,
        "reportingInstance": instance[:128],
        "regarding": {
            "apiVersion": GROUP_VERSION,
            "kind": KIND,
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
    }


def event_name(metadata: JsonObject, change: Change) -> str:
    """Made of the content, so that what is told again meets the first Event."""
    text = "\n".join((metadata["uid"], change.type, change.reason, change.note))
    return f"{metadata['name'][:200]}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _condition(status: JsonObject, kind: str) -> JsonObject:
    for condition in status.get("conditions") or ():
        if condition.get("type") == kind:
            return dict(condition)
    return {}


def _told_before(status: JsonObject, reason: str) -> bool:
    return any(
        condition.get("reason") == reason
        for condition in status.get("conditions") or ()
        if condition.get("type") in ("Ready", "Stalled", "Reconciling", "Degraded")
    )


def _decision_note(plan: JsonObject) -> str:
    why = " ".join(plan.get("reasons") or ())
    head = f"{plan.get('model')} on {plan.get('gpusPerReplica')} x {plan.get('product')} per replica"
    facts = (
        f"{plan.get('layoutSummary')}, peak {plan.get('peakPerGPU')} of {plan.get('freePerGPU')} free per GPU"
    )
    return f"{head}: {facts}. {why}".strip()
