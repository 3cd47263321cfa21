"""What the engine says of itself: one EngineReport, kept up to date by the engine, read by /v1/report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from diffusion_runtime.generation.messages import Done, RankFailure, Ready
from diffusion_runtime.loading.fitting import planned_host_bytes, planned_peak_bytes
from diffusion_runtime.planning.documents import (
    EngineReport,
    Execution,
    Fallback,
    PhaseMeasurement,
    Plan,
    PlannedFigures,
    RankMeasurement,
)

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
        planned=planned_figures(plan, plan),
    )


def planned_figures(plan: Plan, execution: Execution) -> PlannedFigures:
    """The forecast of the plan, or the little that is known beforehand of one of its fallbacks."""
    peak, host = planned_peak_bytes(plan, execution), planned_host_bytes(plan, execution)
    if isinstance(execution, Fallback):
        return PlannedFigures(peak_per_gpu_bytes=peak, host_bytes=host)
    forecast = plan.memory.phases
    return PlannedFigures(
        peak_per_gpu_bytes=peak,
        host_bytes=host,
        phases={
            name: plan.memory.context_bytes + phase.weights_bytes + phase.activation_bytes + phase.gap_bytes
            for name, phase in forecast
        },
        seconds_per_step=plan.time.per_step_seconds,
        seconds_per_request=plan.time.per_request_seconds,
    )


def executing(report: EngineReport, plan: Plan, execution: Execution, why: str | None = None) -> EngineReport:
    """The plan itself or, for the reason `why`, one of its fallbacks is being started."""
    fallback = execution if isinstance(execution, Fallback) else None
    return report.model_copy(
        update={
            "executing_hash": fallback.hash if fallback else plan.hash,
            "executing_reason": why if fallback else None,
            "ranks": execution.layout.ranks,
            "compiled": execution.compile.enabled,
            "planned_peak_per_gpu_bytes": planned_peak_bytes(plan, execution),
            "planned": planned_figures(plan, execution),
            "measured_peak_per_gpu_bytes": None,
            "phases": {},
            "rank_measurements": (),
        }
    )


def with_ready(report: EngineReport, ranks: Sequence[Ready], driver: str | None = None) -> EngineReport:
    """All ranks have loaded; `driver` is the version of the GPUs' driver."""
    measured = tuple(RankMeasurement(rank=i, phases={"load": r.load}) for i, r in enumerate(ranks))
    versions = ranks[0].versions | ({"driver": driver} if driver else {})
    return _with_ranks(report, measured).model_copy(
        update={
            "load_seconds": max(rank.load.seconds or 0.0 for rank in ranks),
            "load_stages": {
                name: max(rank.stages.get(name, 0.0) for rank in ranks) for name in ranks[0].stages
            },
            "loaded_bytes": sum(rank.loaded_bytes for rank in ranks),
            "versions": versions,
            "allocator": ranks[0].allocator,
        }
    )


def with_picture(report: EngineReport, ranks: Sequence[Done]) -> EngineReport:
    """A picture was drawn: seconds are the last picture's, bytes the highest seen so far."""
    before = {measured.rank: measured.phases for measured in report.rank_measurements}
    measured = tuple(
        RankMeasurement(
            rank=index,
            phases=_with_phases(before.get(index, {}), rank.phases),
            seconds_per_step=rank.seconds_per_step,
        )
        for index, rank in enumerate(ranks)
    )
    return _with_ranks(report, measured).model_copy(
        update={
            "seconds_per_step": max(rank.seconds_per_step for rank in ranks),
            "seconds_per_request": request_seconds(ranks),
        }
    )


def request_seconds(ranks: Sequence[Done]) -> float:
    """What one request took on rank 0, which alone runs every phase."""
    return sum(phase.seconds or 0.0 for phase in ranks[0].phases.values())


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


def _with_ranks(report: EngineReport, ranks: tuple[RankMeasurement, ...]) -> EngineReport:
    """Every rank's figures, the worst of them by phase, and the highest that the driver showed at all."""
    names = dict.fromkeys(name for rank in ranks for name in rank.phases)
    phases = {name: worst_of([r.phases[name] for r in ranks if name in r.phases]) for name in names}
    shown = [phase.driver_bytes for phase in phases.values() if phase.driver_bytes is not None]
    return report.model_copy(
        update={
            "rank_measurements": ranks,
            "phases": phases,
            "measured_peak_per_gpu_bytes": max(shown, default=None),
        }
    )


def _with_phases(
    before: Mapping[str, PhaseMeasurement], now: Mapping[str, PhaseMeasurement]
) -> dict[str, PhaseMeasurement]:
    phases = dict(before)
    for name, measured in now.items():
        known = [before[name]] if name in before else []
        phases[name] = worst_of([measured, *known]).model_copy(update={"seconds": measured.seconds})
    return phases
