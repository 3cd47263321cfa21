"""What the engine says of itself: one EngineReport, kept up to date by the engine, read by /v1/report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from diffusion_runtime.generation.messages import Done, RankFailure, Ready
from diffusion_runtime.planning.documents import EngineReport, Execution, Fallback, PhaseMeasurement, Plan

State = Literal["loading", "ready", "draining", "failed"]


def first_report(plan: Plan) -> EngineReport:
    """Before anything is loaded."""
    return EngineReport(
        plan_hash=plan.hash,
        executing_hash=plan.hash,
        state="loading",
        device=plan.device,
        ranks=plan.layout.ranks,
        planned_peak_per_gpu_bytes=plan.memory.peak_per_gpu_bytes,
    )


def executing(report: EngineReport, plan: Plan, execution: Execution) -> EngineReport:
    """The plan itself or one of its fallbacks is being started."""
    fallback = execution if isinstance(execution, Fallback) else None
    return report.model_copy(
        update={
            "executing_hash": fallback.hash if fallback else plan.hash,
            "ranks": execution.layout.ranks,
            "planned_peak_per_gpu_bytes": (
                fallback.peak_per_gpu_bytes if fallback else plan.memory.peak_per_gpu_bytes
            ),
            "phases": {},
        }
    )


def with_ready(report: EngineReport, ranks: Sequence[Ready]) -> EngineReport:
    """All ranks have loaded."""
    load = worst_of([rank.load for rank in ranks])
    return report.model_copy(
        update={
            "load_seconds": load.seconds,
            "load_stages": {
                name: max(rank.stages.get(name, 0.0) for rank in ranks) for name in ranks[0].stages
            },
            "loaded_bytes": sum(rank.loaded_bytes for rank in ranks),
            "versions": ranks[0].versions,
            "phases": {"load": load},
        }
    )


def with_picture(report: EngineReport, ranks: Sequence[Done]) -> EngineReport:
    """A picture was drawn: seconds are the last picture's, bytes the highest seen so far."""
    phases = dict(report.phases)
    for name in ranks[0].phases:
        now = worst_of([rank.phases[name] for rank in ranks if name in rank.phases])
        before = phases.get(name)
        worst = worst_of([now, before]) if before else now
        phases[name] = worst.model_copy(update={"seconds": now.seconds})
    seconds = sum(measured.seconds or 0.0 for measured in ranks[0].phases.values())
    return report.model_copy(
        update={
            "phases": phases,
            "seconds_per_step": max(rank.seconds_per_step for rank in ranks),
            "seconds_per_request": seconds,
        }
    )


def with_failure(report: EngineReport, failure: RankFailure | None) -> EngineReport:
    """Why the last group was lost; None clears it."""
    return report.model_copy(
        update={
            "reason": failure.reason if failure else None,
            "message": failure.message if failure else None,
        }
    )


def worst_of(measurements: Sequence[PhaseMeasurement]) -> PhaseMeasurement:
    """Field by field the largest; null where no rank measured it."""
    fields = PhaseMeasurement.model_fields
    values = {name: [getattr(measured, name) for measured in measurements] for name in fields}
    return PhaseMeasurement(
        **{name: max((v for v in found if v is not None), default=None) for name, found in values.items()}
    )
