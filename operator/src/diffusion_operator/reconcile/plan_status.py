"""A plan as `status.plan`: the facts of plan.json, shortened to what a reader of the object needs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.placement.decision import GroupDecision
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.documents import Plan, Rejected
from diffusion_runtime.planning.errors import UnknownModel
from diffusion_runtime.planning.explain import format_bytes, layout_summary

LAYOUT_AXES = ("cfg", "ulysses", "ring", "tensor", "fsdp")

LONGEST_SENTENCE = 1024  # what the CRD schema admits
MOST_SENTENCES = 32


def plan_status(group: GroupDecision, warnings: Sequence[str] = ()) -> JsonObject:
    """`status.plan` for one group; bytes are plain integers, sizes for people are text such as 57.9GiB.

    `warnings` are about the deployment and come before those of the plan.
    """
    plan = group.plan
    status: JsonObject = {
        "hash": plan.hash,
        "mode": plan.mode if plan.bias is None else f"bias {plan.bias:.2f}",
        "model": plan.model.name,
        "gpusPerReplica": plan.gpus_per_replica,
        "product": group.product,
        "group": group.name,
        "layout": {axis: getattr(plan.layout, axis) for axis in LAYOUT_AXES},
        "layoutSummary": layout_summary(plan.layout, plan.gpus_per_replica),
        "residency": {name: residency.mode for name, residency in sorted(plan.residency.items())},
        "dtype": dict(sorted(plan.dtype.items())),
        "device": plan.device,
        "source": plan.source,
        "peakPerGPU": format_bytes(plan.memory.peak_per_gpu_bytes),
        "freePerGPU": format_bytes(plan.memory.free_per_gpu_bytes),
        "memory": _memory(plan),
        "reasons": _sentences(plan.reasons),
        "warnings": _sentences([*warnings, *plan.warnings]),
        "rejected": [_rejected(candidate) for candidate in plan.rejected],
        "overrides": _sentences(plan.overrides),
    }
    if plan.device == "cuda" and not group.downgraded_from:  # a fallback has no forecast of its time
        status["predictedSecondsPerRequest"] = round(plan.time.per_request_seconds, 4)
    if group.downgraded_from:
        status["downgradedFrom"] = group.downgraded_from
    return {key: value for key, value in status.items() if value not in ([], {}, "")}


def placement_status(group: GroupDecision) -> JsonObject:
    """One entry of `status.placements`."""
    plan = group.plan
    waiting = {"waitingForNodes": group.future} if group.future else {}
    return waiting | {
        "group": group.name,
        "gpusPerReplica": plan.gpus_per_replica,
        "replicas": group.replicas,
        "planHash": plan.hash,
        "product": group.product,
        "layoutSummary": layout_summary(plan.layout, plan.gpus_per_replica),
        "peakPerGPU": format_bytes(plan.memory.peak_per_gpu_bytes),
    }


def _memory(plan: Plan) -> list[JsonObject]:
    """Weight bytes of each whole component in its planned dtype, and where they live."""
    try:
        facts = facts_for(plan.model.name)
    except UnknownModel:
        return []
    return [
        {
            "component": component.name,
            "bytes": component.bytes(plan.dtype.get(component.name, component.default_dtype)),
            "placement": plan.residency[component.name].mode,
        }
        for component in facts.components
        if component.name in plan.residency
    ]


def _sentences(sentences: Sequence[str]) -> list[str]:
    return [sentence[:LONGEST_SENTENCE] for sentence in sentences[:MOST_SENTENCES]]


def _rejected(candidate: Rejected) -> JsonObject:
    entry: JsonObject = {
        "layout": layout_summary(candidate.layout, candidate.gpus_per_replica),
        "reason": candidate.reason[:LONGEST_SENTENCE],
    }
    if candidate.shortfall_bytes is not None:
        entry["shortfall"] = format_bytes(candidate.shortfall_bytes)
    return entry
