"""`plan --compare`: every mode's plan side by side, for the same model, GPUs and settings. Only layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diffusion_runtime.planning.documents import NoPlan, Plan
from diffusion_runtime.planning.explain import format_bytes, format_seconds, layout_summary

Answers = Mapping[str, Plan | NoPlan]
_LABEL = 10
_COLUMN = 24


def comparison(answers: Answers) -> str:
    """One column per mode; a mode without a plan says what is missing."""
    rows: list[tuple[str, Callable[[Plan], list[str]]]] = [
        ("GPUs", lambda p: [f"{p.gpus_per_replica} x {p.gpu_product or 'GPU'}"]),
        ("layout", lambda p: [layout_summary(p.layout, p.gpus_per_replica)]),
        ("weights", _residencies),
        ("decode", lambda p: [f"tiles of {p.vae.tile_size}" if p.vae.tiling else "whole"]),
        ("peak", lambda p: [_peak(p)]),
        ("of free", lambda p: [format_bytes(p.memory.free_per_gpu_bytes)]),
        ("host", lambda p: [format_bytes(p.memory.host_bytes)]),
        ("request", lambda p: [_seconds(p, p.time.per_request_seconds)]),
        ("step", lambda p: [_seconds(p, p.time.per_step_seconds)]),
        ("per GPU", lambda p: [_rate(p)]),
        ("hash", lambda p: [p.hash]),
        ("warnings", lambda p: [str(len(p.warnings))]),
    ]
    lines = [_line("", list(answers))]
    for label, cell in rows:
        cells = [
            cell(a) if isinstance(a, Plan) else (_missing(a) if label == "GPUs" else [""])
            for a in answers.values()
        ]
        for index in range(max(map(len, cells))):
            lines.append(
                _line(label if index == 0 else "", [c[index] if index < len(c) else "" for c in cells])
            )
    return "\n".join(lines) + "\n"


def _line(label: str, cells: list[str]) -> str:
    return f"{label:<{_LABEL}}{''.join(f'{cell:<{_COLUMN}}' for cell in cells)}".rstrip()


def _residencies(plan: Plan) -> list[str]:
    moved = []
    for name, residency in plan.residency.items():
        if residency.mode == "component":
            moved.append(f"{name} visits")
        elif residency.mode == "layerwise":
            stay = f", {residency.resident_blocks} stay" if residency.resident_blocks else ""
            moved.append(f"{name} streamed{stay}")
    return [text if len(text) < _COLUMN else f"{text[: _COLUMN - 2]}…" for text in moved] or ["all resident"]


def _peak(plan: Plan) -> str:
    peak, free = plan.memory.peak_per_gpu_bytes, plan.memory.free_per_gpu_bytes
    over = f" ({format_bytes(peak - free)} over)" if peak > free else ""
    return f"{format_bytes(peak)}{over}"


def _missing(refusal: NoPlan) -> list[str]:
    if refusal.shortfall_bytes is None:
        return [refusal.reason]
    return [f"{format_bytes(refusal.shortfall_bytes)} missing"]


def _seconds(plan: Plan, seconds: float) -> str:
    return "not predicted" if plan.device == "cpu" else format_seconds(seconds)


def _rate(plan: Plan) -> str:
    if plan.device == "cpu":
        return "not predicted"
    return f"{3600 / (plan.gpus_per_replica * plan.time.per_request_seconds):.3g} requests/h"
