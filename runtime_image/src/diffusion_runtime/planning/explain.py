"""Words for plans: one-phrase summaries and the table that `diffusion-runtime plan` prints.

Only wording; every number comes out of the plan.
"""

from __future__ import annotations

import textwrap

from diffusion_runtime.planning.documents import Layout, NoPlan, Plan, Rejected, Residency, Shape
from diffusion_runtime.planning.units import format_bytes, format_seconds

__all__ = ["format_bytes", "format_seconds", "layout_summary", "no_plan_table", "plan_table"]

_WIDTH = 100
_BAR = 36


def layout_summary(layout: Layout, gpus: int) -> str:
    """One phrase: `1 GPU`, `cfg 2`, `fsdp 4 + cfg 2 + ulysses 2`."""
    parts = [f"fsdp {gpus}"] if layout.fsdp else []
    for axis in ("cfg", "ulysses", "ring", "tensor"):
        ranks = getattr(layout, axis)
        if ranks > 1:
            parts.append(f"{axis} {ranks}")
    if layout.text_encoder_tensor:
        parts.append(f"text encoder tensor {gpus}")
    return " + ".join(parts) or ("1 GPU" if gpus == 1 else f"{gpus} GPUs")


def residency_summary(residency: dict[str, Residency]) -> str:
    """`all resident`, or what is not: `text_encoder component, transformer layerwise`."""
    moved = [f"{name} {r.mode}{_stay(r)}" for name, r in residency.items() if r.mode != "resident"]
    return ", ".join(moved) or "all resident"


def _stay(residency: Residency) -> str:
    return f" ({residency.resident_blocks} blocks stay)" if residency.resident_blocks else ""


def shape_summary(shape: Shape) -> str:
    """`1024x1024, 50 steps` or `832x480, 81 frames, 50 steps`."""
    frames = f", {shape.frames} frames" if shape.frames > 1 else ""
    return f"{shape.width}x{shape.height}{frames}, {shape.steps} steps"


def plan_table(plan: Plan) -> str:
    """The plan as text: what, where, memory by phase as bars, time, reasons, what lost."""
    lines = [*_head(plan), "", *_memory(plan), "", *_time(plan)]
    lines += _list("Why", plan.reasons)
    lines += _list("Set by you", plan.overrides)
    lines += _list("Warnings", plan.warnings)
    lines += _list("Not chosen", tuple(rejected_sentence(r) for r in plan.rejected))
    if plan.fallbacks:
        lines += _list(
            "If memory runs short",
            tuple(
                f"{layout_summary(f.layout, f.gpus_per_replica)}, {residency_summary(f.residency)}"
                f"{', tiled decode' if f.vae.tiling else ''}: {format_bytes(f.peak_per_gpu_bytes)}"
                for f in plan.fallbacks
            ),
        )
    return "\n".join(lines) + "\n"


def no_plan_table(refusal: NoPlan) -> str:
    """Why nothing fits, and the candidates that came nearest."""
    lines = [f"No plan ({refusal.reason})", *_wrap(refusal.message, "  ", "  ")]
    lines += _list("Tried", tuple(rejected_sentence(r) for r in refusal.rejected))
    return "\n".join(lines) + "\n"


def rejected_sentence(rejected: Rejected) -> str:
    """`cfg 2, all resident: 3.1GiB too large`."""
    what = f"{rejected.gpus_per_replica} GPU{'s' if rejected.gpus_per_replica > 1 else ''}"
    layout = layout_summary(rejected.layout, rejected.gpus_per_replica)
    layout = "" if layout.endswith(("GPU", "GPUs")) else f", {layout}"
    return f"{what}{layout}, {residency_summary(rejected.residency)}: {rejected.reason}"


def _head(plan: Plan) -> list[str]:
    mode = plan.mode if plan.bias is None else f"{plan.mode}, bias {plan.bias:g}"
    gpus = f"{plan.gpus_per_replica} x {plan.gpu_product or 'GPU'}"
    settings = [
        "compiled blocks" if plan.compile.enabled else "eager",
        f"attention {plan.attention.backend}",
        f"decode in {plan.vae.tile_size}-pixel tiles" if plan.vae.tiling else "decode whole",
    ]
    dtypes = sorted(set(plan.dtype.values()))
    dtype = dtypes[0] if len(dtypes) == 1 else ", ".join(f"{k} {v}" for k, v in plan.dtype.items())
    rows = [
        ("Plan", f"{plan.model.name}  ({plan.model.family}, mode {mode}, hash {plan.hash})"),
        ("GPUs", f"{gpus} per replica, {layout_summary(plan.layout, plan.gpus_per_replica)}"),
        ("Weights", f"{residency_summary(plan.residency)}; {dtype}"),
        ("Execution", f"{plan.device}, {', '.join(settings)}"),
        (
            "Shape",
            f"{'; '.join(map(shape_summary, plan.shapes))}; guidance {'on' if plan.guidance else 'off'}",
        ),
    ]
    return [f"{name:<11}{text}" for name, text in rows]


def _memory(plan: Plan) -> list[str]:
    forecast = plan.memory
    lines = [f"{'Memory':<11}{'phase':<9}{'weights':>10}{'work':>10}{'gap':>10}{'total':>10}"]
    scale = max(forecast.free_per_gpu_bytes, forecast.peak_per_gpu_bytes, 1)
    for name in ("load", "text", "denoise", "decode"):
        phase = getattr(forecast.phases, name)
        total = forecast.context_bytes + phase.weights_bytes + phase.activation_bytes + phase.gap_bytes
        bar = "█" * max(1, round(_BAR * total / scale))
        lines.append(
            f"{'':<11}{name:<9}{format_bytes(phase.weights_bytes):>10}{format_bytes(phase.activation_bytes):>10}"
            f"{format_bytes(phase.gap_bytes):>10}{format_bytes(total):>10}  {bar}"
        )
    lines.append(
        f"{'':<11}peak {format_bytes(forecast.peak_per_gpu_bytes)} of "
        f"{format_bytes(forecast.free_per_gpu_bytes)}"
        f" free per GPU (CUDA context {format_bytes(forecast.context_bytes)} included);"
        f" host {format_bytes(forecast.host_bytes)}"
    )
    return lines


def _time(plan: Plan) -> list[str]:
    time = plan.time
    if plan.device == "cpu":
        return [f"{'Time':<11}not predicted for the CPU"]
    return [
        f"{'Time':<11}{format_seconds(time.per_request_seconds)} per request, "
        f"{format_seconds(time.per_step_seconds)} per step, "
        f"{format_seconds(time.per_forward_seconds)} per forward ({plan.source})"
    ]


def _list(title: str, items: tuple[str, ...]) -> list[str]:
    if not items:
        return []
    lines = ["", title]
    for item in items:
        lines += _wrap(item, "  - ", "    ")
    return lines


def _wrap(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
