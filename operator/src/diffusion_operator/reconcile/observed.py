"""`status.observed`: what the ready engines measured, beside what was predicted. Pure.

Every engine measures a little different each time; a value is written only when it moved by more than 2 %, so
that serving costs no writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from diffusion_operator.kube.resources import JsonObject
from diffusion_runtime.planning.documents import EngineReport, PhaseMemory, Plan
from diffusion_runtime.planning.explain import format_bytes

LEAST_CHANGE = 0.02
PHASES = ("load", "text", "denoise", "decode")
TIMES = (
    ("secondsPerStep", "seconds_per_step"),
    ("secondsPerRequest", "seconds_per_request"),
    ("loadSeconds", "load_seconds"),
)


def observed_status(
    reports: Mapping[str, EngineReport], plans: Sequence[Plan], before: JsonObject
) -> JsonObject:
    """The worst that the ready engines measured, near-equal values kept from `before`.

    Times have two significant digits.
    """
    found = list(reports.values())
    status: JsonObject = {}
    phases = _phases(found, plans, before)
    if phases:
        worst = max(phases, key=lambda phase: int(phase["peakBytes"]))
        status["phases"] = phases
        status["peakPerGPU"] = format_bytes(worst["peakBytes"])
        status["predictedPeakPerGPU"] = format_bytes(max(r.planned_peak_per_gpu_bytes for r in found))
    for name, field in TIMES:
        measured = [value for report in found if (value := getattr(report, field)) is not None]
        if measured:
            status[name] = steady(float(f"{max(measured):.2g}"), before.get(name))
    hashes = sorted({report.executing_hash for report in found})
    if hashes:
        status["executingHash"] = ",".join(hashes)[:128]
    return status


def steady(now: float, before: float | None) -> float:
    """`before` unless `now` differs from it by more than 2 %."""
    if before is None or abs(now - before) > LEAST_CHANGE * abs(before):
        return now
    return before


def _phases(reports: Sequence[EngineReport], plans: Sequence[Plan], before: JsonObject) -> list[JsonObject]:
    """One entry for each phase that any device measured."""
    known = {entry.get("phase"): entry.get("peakBytes") for entry in before.get("phases") or ()}
    executed = {report.executing_hash for report in reports}
    predicting = [plan for plan in plans if plan.hash in executed]
    entries = []
    for phase in PHASES:
        measured = [
            m.driver_bytes or m.reserved_bytes or 0
            for report in reports
            if (m := report.phases.get(phase)) is not None
        ]
        if not any(measured):
            continue
        entry: JsonObject = {"phase": phase, "peakBytes": int(steady(max(measured), known.get(phase)))}
        predicted = [_predicted(plan, phase) for plan in predicting]
        if predicted:
            entry["predictedBytes"] = max(predicted)
        entries.append(entry)
    return entries


def _predicted(plan: Plan, phase: str) -> int:
    """Context and all that the plan counts for this phase: comparable with what the driver shows."""
    memory: PhaseMemory = getattr(plan.memory.phases, phase)
    return plan.memory.context_bytes + memory.weights_bytes + memory.activation_bytes + memory.gap_bytes
