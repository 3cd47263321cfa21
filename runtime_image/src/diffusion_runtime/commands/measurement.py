"""One plan followed and measured: what `bench` writes down. Torch stays in the rank processes."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.calibrations import PHASES, Calibration, Versions
from diffusion_runtime.planning.documents import EngineReport, Execution, PhaseMeasurement, Plan
from diffusion_runtime.server.draw_once import draw_once
from diffusion_runtime.server.openai_errors import ApiError
from diffusion_runtime.server.rank_group import Picture, UndrawableRequest
from diffusion_runtime.server.report import request_seconds
from diffusion_runtime.server.termination import EngineEnded


@dataclass(frozen=True)
class Failed:
    """Why there is nothing to write down."""

    message: str


@dataclass(frozen=True)
class Measured:
    """Peak as the driver shows it, None where the device reports none; medians of seconds; all phases."""

    peak_bytes: int | None
    per_step_seconds: float
    per_request_seconds: float
    phases: dict[str, PhaseMeasurement]


def measure(plan: Plan, prompt: str, repeats: int) -> Measured | Failed:
    """Follow the plan; the first request warms up and does not count."""
    body = {"prompt": prompt, "seed": 0, "n": 1 + repeats}
    try:
        _, pictures, report = draw_once(plan, body)
    except (ApiError, EngineRefusal) as error:
        return Failed(error.message)
    except UndrawableRequest as error:
        return Failed(error.failure.message)
    except EngineEnded as error:
        return Failed(f"{error.failure.reason}: {error.failure.message}")
    if report.executing_hash != plan.hash:
        return Failed("the plan ran out of memory and a fallback drew the pictures.")
    return _measured(pictures[1:], report)


def _measured(pictures: list[Picture], report: EngineReport) -> Measured:
    peaks = [phase.driver_bytes for phase in report.phases.values() if phase.driver_bytes is not None]
    return Measured(
        peak_bytes=max(peaks, default=None),
        per_step_seconds=median(max(r.seconds_per_step for r in picture.ranks) for picture in pictures),
        per_request_seconds=median(request_seconds(picture.ranks) for picture in pictures),
        phases=dict(report.phases),
    )


def calibration_of(plan: Plan, result: Measured, versions: Versions) -> Calibration | None:
    """None where no GPU was measured: a calibration says what a GPU product needs."""
    if result.peak_bytes is None or plan.gpu_product is None:
        return None
    passes = 2 if plan.guidance and plan.layout.cfg == 1 else 1
    return Calibration(
        model=plan.model.name,
        revision=plan.model.revision,
        gpu_product=plan.gpu_product,
        execution=Execution.model_validate(plan.model_dump(include=set(Execution.model_fields))),
        shape=plan.shapes[0],
        guidance=plan.guidance,
        versions=versions,
        peak_per_gpu_bytes=result.peak_bytes,
        phases={name: phase for name, phase in result.phases.items() if name in PHASES},
        per_forward_seconds=result.per_step_seconds / passes,
        per_step_seconds=result.per_step_seconds,
        per_request_seconds=result.per_request_seconds,
    )
