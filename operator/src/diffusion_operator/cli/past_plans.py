"""The plans that one DiffusionDeployment had, put together from what the cluster keeps of them. Pure.

A plan's document lives while a ReplicaSet names it, so a few roll-outs back are whole; of earlier ones only
what `status.history` remembers is left. Nothing here guesses what is not kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import ValidationError

from diffusion_operator.api.names import LABEL_GROUP, LABEL_PLAN_HASH, PLAN_KEY
from diffusion_runtime.planning.documents import Plan
from diffusion_runtime.planning.explain import format_bytes, layout_summary

Raw = Mapping[str, Any]
Key = tuple[str, str]  # group, plan hash
State = Literal["serves", "starts", "planned", "leaves", "failed", "outOfMemory", "replaced", "unused"]

REVISION = "deployment.kubernetes.io/revision"


@dataclass(frozen=True)
class PastPlan:
    """One plan of one group. Times as the API server writes them, empty where nothing tells them.

    `until`: when the plan that took its place was made. `pods` are those that follow it and do not end.
    """

    group: str
    plan_hash: str
    state: State
    why: str = ""
    made_at: str = ""
    until: str = ""
    layout: str = ""
    peak: str = ""
    pods: int = 0
    ready_pods: int = 0


@dataclass(frozen=True)
class Traces:
    """Raw objects of one DiffusionDeployment."""

    dd: Raw
    config_maps: Sequence[Raw] = ()
    replica_sets: Sequence[Raw] = ()
    pods: Sequence[Raw] = ()


@dataclass
class _Known:
    """All that is known of one plan."""

    key: Key
    made_at: str = ""
    revision: int = 0
    layout: str = ""
    peak: str = ""
    pods: int = 0
    ready_pods: int = 0
    current: bool = False
    notes: list[str] = field(default_factory=list)
    failed: Raw | None = None
    downgrade: Raw | None = None


def past_plans(traces: Traces) -> list[PastPlan]:
    """Newest first in each group; the groups that are used now come first."""
    status = traces.dd.get("status") or {}
    known = _collected(traces, status)
    used = [str(raw.get("group", "")) for raw in status.get("placements") or ()]
    groups = dict.fromkeys([*used, *sorted(group for group, _ in known)])
    found: list[PastPlan] = []
    for group in groups:
        mine = [one for one in known.values() if one.key[0] == group]
        # A plan that came back is older than the one that failed, but its ReplicaSet has the later revision.
        mine.sort(key=lambda one: (one.current, one.revision, one.made_at, one.key), reverse=True)
        found += _told(mine, suspended=not status.get("placements"))
    return found


def _collected(traces: Traces, status: Raw) -> dict[Key, _Known]:
    known: dict[Key, _Known] = {}

    def of(group: str, plan_hash: str) -> _Known:
        return known.setdefault((group, plan_hash), _Known((group, plan_hash)))

    for raw in traces.config_maps:
        if (key := _key(raw)) is not None:
            one = of(*key)
            one.made_at = str(raw["metadata"].get("creationTimestamp") or "")
            one.layout, one.peak = _figures(raw)
    for raw in traces.replica_sets:
        if (key := _key(raw)) is not None:
            text = (raw["metadata"].get("annotations") or {}).get(REVISION, "")
            of(*key).revision = max(of(*key).revision, int(text) if text.isdigit() else 0)
    for raw in traces.pods:
        if (key := _key(raw)) is not None and "deletionTimestamp" not in raw["metadata"]:
            of(*key).pods += 1
            of(*key).ready_pods += _is_ready(raw)
    _add_current(status, of)
    history = status.get("history") or {}
    for raw in history.get("failed") or ():
        of(str(raw.get("group", "")), str(raw.get("planHash", ""))).failed = raw
    for raw in history.get("downgrades") or ():
        plan_hash = str(raw.get("planHash", ""))
        holders = [one for one in known.values() if one.key[1] == plan_hash] or [of("", plan_hash)]
        for one in holders:
            one.downgrade = raw
            one.layout = one.layout or str(raw.get("layout", ""))
    _add_notes(status, known)
    return known


def _add_current(status: Raw, of: Callable[[str, str], _Known]) -> None:
    """What is promised now, or what would be while it is suspended."""
    plan = status.get("plan") or {}
    suspended = [{"group": plan.get("group"), "planHash": plan.get("hash"), **plan}] if plan else []
    for raw in status.get("placements") or suspended:
        one = of(str(raw.get("group") or ""), str(raw.get("planHash") or ""))
        one.current = True
        one.layout = one.layout or str(raw.get("layoutSummary") or "")
        one.peak = one.peak or str(raw.get("peakPerGPU") or "")


def _add_notes(status: Raw, known: Mapping[Key, _Known]) -> None:
    plan, history = status.get("plan") or {}, status.get("history") or {}
    origin = plan.get("downgradedFrom")
    conditions: Iterable[Raw] = status.get("conditions") or ()
    degraded: Raw = next((one for one in conditions if one.get("type") == "Degraded"), {})
    executing = (status.get("observed") or {}).get("executingHash")
    ready = {(str(raw.get("group")), str(raw.get("planHash"))) for raw in history.get("lastReady") or ()}
    for one in known.values():
        if not one.current:
            if one.key in ready:
                one.notes.append("a roll-out that fails now goes back to it")
            continue
        if origin and one.key[1] == plan.get("hash"):
            one.notes.append(f"a fallback of {origin}, which ran out of memory")
        failed = [other for other in known.values() if other.failed and other.key[0] == one.key[0]]
        if degraded.get("reason") == "RolledBack" and failed and degraded.get("status") == "True":
            one.notes.append(f"came back when {failed[-1].key[1]} failed")
        if executing and executing != one.key[1] and len(status.get("placements") or ()) == 1:
            one.notes.append(f"its engines execute fallback {executing}")


def _told(mine: Sequence[_Known], *, suspended: bool) -> list[PastPlan]:
    """`mine` are the plans of one group, newest first."""
    told: list[PastPlan] = []
    successor: _Known | None = None
    for one in mine:
        state, why = _end(one, successor, suspended=suspended)
        told.append(
            PastPlan(
                *one.key,
                state,
                "; ".join([*([why] if why else []), *one.notes]),
                one.made_at,
                layout=one.layout,
                peak=one.peak,
                pods=one.pods,
                ready_pods=one.ready_pods,
            )
        )
        if successor is not None and not one.current and successor.made_at > one.made_at > "":
            told[-1] = replace(told[-1], until=successor.made_at)
        if one.failed is None or one.current:
            successor = one
    return told


def _end(one: _Known, successor: _Known | None, *, suspended: bool) -> tuple[State, str]:
    """The state of a plan, and why it ended or what became of it."""
    if one.current:
        return ("serves" if one.ready_pods else "planned" if suspended else "starts"), ""
    if one.failed is not None:
        return "failed", f"{one.failed.get('reason')}: {one.failed.get('message')}"
    if one.downgrade is not None:
        leaner = one.downgrade.get("toHash")
        after = f"its fallback {leaner} took over" if leaner else "no leaner plan was left"
        return "outOfMemory", f"{one.downgrade.get('reason')}: {one.downgrade.get('message')}; {after}"
    state: State = "leaves" if one.pods else "replaced" if successor is not None else "unused"
    if successor is None:
        return state, "nothing is promised to its group now"
    return state, f"plan {successor.key[1]} took its place"


def _key(raw: Raw) -> Key | None:
    """Group and plan of a ConfigMap, ReplicaSet or pod; None for what carries no plan."""
    labels = raw["metadata"].get("labels") or {}
    if LABEL_PLAN_HASH not in labels:
        return None
    return str(labels.get(LABEL_GROUP, "")), str(labels[LABEL_PLAN_HASH])


def _figures(config_map: Raw) -> tuple[str, str]:
    """Layout and peak per GPU in words; empty where another version wrote the document."""
    try:
        plan = Plan.model_validate_json(str((config_map.get("data") or {}).get(PLAN_KEY, "")))
    except ValidationError:
        return "", ""
    peak = format_bytes(plan.memory.peak_per_gpu_bytes)
    return layout_summary(plan.layout, plan.gpus_per_replica), peak


def _is_ready(pod: Raw) -> bool:
    conditions: Iterable[Raw] = (pod.get("status") or {}).get("conditions") or ()
    return any(one.get("type") == "Ready" and one.get("status") == "True" for one in conditions)
