"""`plan --plot FILE.png`: time against memory for every candidate, the front, and where the plan stands.

Needs matplotlib (the extra `plot`); it is imported only here.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from diffusion_runtime.planning.documents import Plan
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.explain import format_bytes, format_seconds, layout_summary, residency_summary
from diffusion_runtime.planning.points import Picture, Point
from diffusion_runtime.planning.units import GIB

INK, GREY, BLUE, RED = "#1f2328", "#9aa4ae", "#2f6fb3", "#c8402f"


def check_plot(file: Path) -> None:
    """Raises BadRequest before anything is planned: not a PNG, no such folder, no matplotlib."""
    if file.suffix.lower() != ".png":
        raise BadRequest("plot", f"--plot {file}: only PNG is drawn; name a file that ends in .png.")
    if not file.absolute().parent.is_dir():
        raise BadRequest("plot", f"--plot {file}: there is no folder {file.absolute().parent}.")
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise BadRequest(
            "plot", "--plot needs matplotlib: pip install 'diffusion-runtime[plot]', or leave --plot out."
        ) from error


def draw(plan: Plan, picture: Picture, file: Path) -> None:
    """Write the picture. Bytes on the x axis in GiB, seconds per request on the y axis."""
    figures = import_module("matplotlib.figure")
    figure = figures.Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    _candidates(axes, picture)
    _room(axes, picture)
    _chosen(axes, plan, _unit(picture)[1])
    _frame(axes, plan, picture)
    figure.savefig(file)


def _candidates(axes: Any, picture: Picture) -> None:
    second = _unit(picture)[1]
    fitting = [p for p in picture.points if p.fits and not p.on_front]
    short = [p for p in picture.points if not p.fits]
    best = sorted((p for p in picture.points if p.on_front), key=lambda p: p.peak_bytes)
    if short:
        look = {"facecolors": "none", "edgecolors": GREY, "linewidths": 0.8}
        axes.scatter(*_xy(short, second), s=16, label="does not fit", **look)
    if fitting:
        axes.scatter(*_xy(fitting, second), s=14, color=GREY, label="fits, but something is better in both")
    axes.step(*_xy(best, second), where="post", color=BLUE, linewidth=1.2, alpha=0.6)
    axes.scatter(
        *_xy(best, second), s=32, color=BLUE, zorder=3, label="the front: less memory only for more time"
    )


def _room(axes: Any, picture: Picture) -> None:
    usable = picture.usable_bytes / GIB
    if usable > _right_edge(picture):
        axes.annotate(
            f"{format_bytes(picture.usable_bytes)} may be used →",
            (1, 1),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=8,
            color=INK,
        )
        return
    axes.axvline(usable, color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        f" {format_bytes(picture.usable_bytes)} may be used",
        (usable, 1),
        xycoords=("data", "axes fraction"),
        xytext=(2, -4),
        textcoords="offset points",
        rotation=90,
        va="top",
        fontsize=8,
        color=INK,
    )


def _chosen(axes: Any, plan: Plan, second: float) -> None:
    peak, seconds = plan.memory.peak_per_gpu_bytes, plan.time.per_request_seconds
    words = (
        f"{layout_summary(plan.layout, plan.gpus_per_replica)}, {residency_summary(plan.residency)}: "
        f"{format_bytes(peak)}, {format_seconds(seconds)}"
    )
    axes.scatter(
        [peak / GIB], [seconds / second], s=120, marker="*", color=RED, zorder=4, label=f"the plan: {words}"
    )


def _frame(axes: Any, plan: Plan, picture: Picture) -> None:
    axes.set_ylim(0, 1.06 * max(p.seconds for p in picture.points) / _unit(picture)[1])
    axes.set_xlim(0, _right_edge(picture))
    axes.grid(color="#e4e8ec", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("peak per GPU in GiB, predicted")
    axes.set_ylabel(f"{_unit(picture)[0]} per request, predicted")
    mode = plan.mode if plan.bias is None else f"bias {plan.bias:g}"
    shape = plan.shapes[0]
    frames = f" x {shape.frames} frames" if shape.frames > 1 else ""
    axes.set_title(
        f"{plan.model.name}, {shape.width} x {shape.height}{frames}, "
        f"{plan.gpus_per_replica} x {plan.gpu_product}, {mode}",
        loc="left",
        fontsize=11,
    )
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=1, frameon=False, fontsize=8)


def _unit(picture: Picture) -> tuple[str, float]:
    """Name and seconds of the unit of the y axis."""
    longest = max(p.seconds for p in picture.points)
    if longest > 180:
        return "minutes", 60.0
    return ("seconds", 1.0) if longest > 2 else ("milliseconds", 1e-3)


def _right_edge(picture: Picture) -> float:
    """GiB: all points and, unless it is far away, the limit."""
    widest = max(p.peak_bytes for p in picture.points) / GIB
    usable = picture.usable_bytes / GIB
    return 1.08 * (max(widest, usable) if usable < 1.6 * widest else widest)


def _xy(points: list[Point], second: float) -> tuple[list[float], list[float]]:
    return [p.peak_bytes / GIB for p in points], [p.seconds / second for p in points]
