"""What one reconcile saw, for those who watch from outside. Nothing is decided from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.placement.decision import GroupDecision
from diffusion_runtime.planning.documents import EngineReport


@dataclass(frozen=True)
class Sighting:
    """Conditions by type, and peaks of one GPU in bytes; None where nothing is planned or measured."""

    conditions: Mapping[str, bool] = field(default_factory=dict)
    predicted_peak_bytes: int | None = None
    measured_peak_bytes: int | None = None


def sighting(
    status: JsonObject,
    groups: Sequence[GroupDecision],
    reports: Mapping[str, EngineReport],
) -> Sighting:
    """The worst of all hardware groups and pods."""
    return Sighting(
        {condition["type"]: condition["status"] == "True" for condition in status["conditions"]},
        max((group.plan.memory.peak_per_gpu_bytes for group in groups), default=None),
        measured_peak_bytes(reports),
    )


def measured_peak_bytes(reports: Mapping[str, EngineReport]) -> int | None:
    """Highest bytes that any ready engine measured on a GPU, None without a measurement (as on the CPU)."""
    peaks = (
        phase.driver_bytes or phase.reserved_bytes or 0
        for report in reports.values()
        for phase in report.phases.values()
    )
    return max(peaks, default=0) or None
