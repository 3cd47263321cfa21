"""`status.history`: read before a decision, written back with what it learned. Pure.

An entry that cannot be read (an older operator wrote it otherwise) is dropped: the worst that follows is one
more try of a plan that failed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import ValidationError

from diffusion_operator.api.names import plan_config_map_name
from diffusion_operator.api.status import DowngradeRecord, FailedPlanRecord, LastReadyRecord
from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.placement.decision import GroupDecision
from diffusion_operator.placement.history import Downgrade, FailedPlan, History, LastReady
from diffusion_operator.reconcile.observe import Observation
from diffusion_runtime.planning.documents import Plan

logger = logging.getLogger(__name__)
T = TypeVar("T")

MOST_READY = 16
LONGEST_MESSAGE = 1024


def read_history(status: JsonObject, plan_of: Callable[[str, str], Plan | None]) -> History:
    """The history in a status; `plan_of(group, hash)` finds the plan documents that still exist."""
    raw = status.get("history") or {}
    ready = _read(raw.get("lastReady"), LastReadyRecord, LastReady)
    plans = {(entry.group, entry.plan_hash): plan_of(entry.group, entry.plan_hash) for entry in ready}
    return History(
        failed=_read(raw.get("failed"), FailedPlanRecord, FailedPlan),
        downgrades=_read(raw.get("downgrades"), DowngradeRecord, Downgrade),
        ready=ready,
        plans={key: plan for key, plan in plans.items() if plan is not None},
    )


def history_status(history: History) -> JsonObject:
    """The wire form; empty lists are absent."""
    lists = {
        "failed": [_written(entry, FailedPlanRecord) for entry in history.failed],
        "downgrades": [_written(entry, DowngradeRecord) for entry in history.downgrades],
        "lastReady": [_written(entry, LastReadyRecord) for entry in history.ready],
    }
    return {name: entries for name, entries in lists.items() if entries}


def with_ready(
    history: History, groups: Iterable[GroupDecision], observation: Observation, engine_image: str
) -> History:
    """What serves now is what a later failure goes back to; a plan that serves did not fail.

    An entry lives while its group does.
    """
    for group in groups:
        image = group.engine_image or engine_image
        if not _serves(group, image, observation):
            continue
        entry = LastReady(group.name, group.plan.hash, group.intent, group.wish, image)
        others = [old for old in history.ready if old.group != group.name]
        failed = [f for f in history.failed if (f.group, f.plan_hash) != (group.name, group.plan.hash)]
        if group.rolled_back:
            failed = list(history.failed)
        history = replace(
            history, ready=tuple(sorted([*others, entry], key=lambda e: e.group)), failed=tuple(failed)
        )
    living = {view.group for view in observation.deployments}
    kept = [entry for entry in history.ready if entry.group in living]
    return replace(history, ready=tuple(kept[:MOST_READY]))


def needed_config_maps(dd_name: str, history: History) -> tuple[str, ...]:
    """Names of the plan documents that must not be removed."""
    return tuple(plan_config_map_name(dd_name, entry.group, entry.plan_hash) for entry in history.ready)


def _serves(group: GroupDecision, image: str, observation: Observation) -> bool:
    good = {group.plan.hash, *(fallback.hash for fallback in group.plan.fallbacks)}
    for pod in observation.pods:
        report = observation.reports.get(pod.name)
        if report is None or pod.problem is not None or (pod.image or image) != image:
            continue
        if (pod.plan_hash, report.plan_hash) == (group.plan.hash, group.plan.hash):
            return report.executing_hash in good
    return False


def _read(raw: Any, record: type[Any], made: type[T]) -> tuple[T, ...]:
    found = []
    for entry in raw or ():
        try:
            parsed = record.model_validate(entry)
        except ValidationError as error:
            logger.warning(
                "status.history: an entry cannot be read: %s", error.errors(include_url=False)[0]["msg"]
            )
            continue
        values: Mapping[str, Any] = parsed.model_dump(exclude_none=True)
        found.append(made(**values))
    return tuple(found)


def _written(entry: Any, record: type[Any]) -> JsonObject:
    values = {name: getattr(entry, name) for name in record.model_fields}
    if "message" in values:
        values["message"] = values["message"][:LONGEST_MESSAGE]
    written: JsonObject = record(**{name: value for name, value in values.items() if value != ""}).to_dict()
    return written
