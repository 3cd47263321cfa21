"""Kubernetes Events on change: a decision, a refusal, a failure, a recovery. Nothing on what merely stays.

What changed is read from the status that is about to be replaced, so a restart posts nothing twice. The name
of an Event is made of its content: a repeat meets the first one and becomes its series.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from diffusion_operator.api.names import GROUP_VERSION, KIND
from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import AlreadyExists, ApiError
from diffusion_operator.kube.resources import EVENTS, JsonObject

logger = logging.getLogger(__name__)

REPORTING_CONTROLLER = "diffusion-operator.io/operator"
LONGEST_NOTE = 1024  # bytes; whoever writes other letters has fewer of them
REMEMBERED_EVENTS = 4096
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


class EventRecorder:
    """Posts changes. A failure to post is logged and never fails a reconcile."""

    def __init__(self, client: KubeClient, instance: str, now: Callable[[], datetime]) -> None:
        self._client = client
        self._instance = instance
        self._now = now
        self._counts: OrderedDict[str, int] = OrderedDict()

    async def post(self, dd: JsonObject, change: Change) -> None:
        """Create the Event, or count up the series of the one that says the same."""
        metadata = dd["metadata"]
        name = _event_name(metadata, change)
        try:
            await self._post(metadata, name, change)
        except ApiError as error:
            logger.warning(
                "event %s for %s/%s not posted: %s", change.reason, metadata["namespace"], name, error
            )

    async def _post(self, metadata: JsonObject, name: str, change: Change) -> None:
        stamp = self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        count = self._remember(name)
        try:
            await self._client.create_event(self._event(metadata, name, change, stamp))
        except AlreadyExists:
            series = {"count": max(2, count), "lastObservedTime": stamp}
            await self._client.repeat_event(metadata["namespace"], name, series)

    def _remember(self, name: str) -> int:
        count = self._counts.pop(name, 0) + 1
        self._counts[name] = count
        if len(self._counts) > REMEMBERED_EVENTS:
            self._counts.popitem(last=False)
        return count

    def _event(self, metadata: JsonObject, name: str, change: Change, stamp: str) -> JsonObject:
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
            "reportingInstance": self._instance[:128],
            "regarding": {
                "apiVersion": GROUP_VERSION,
                "kind": KIND,
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
        }


def _event_name(metadata: JsonObject, change: Change) -> str:
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
