"""`bench.png`: measured peak and seconds of each plan, a line to where the prediction was.

Needs matplotlib (the extra `plot`); only `bench` imports this module, after it has asked for it.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from diffusion_runtime.commands.measurement import Measured
from diffusion_runtime.commands.plot import BLUE, GREY, INK
from diffusion_runtime.commands.sweep import size_words
from diffusion_runtime.planning.documents import Plan
from diffusion_runtime.planning.explain import layout_summary, residency_summary
from diffusion_runtime.planning.units import GIB


def draw(file: Path, measured: list[tuple[Plan, Measured]]) -> None:
    """Memory on the x axis in GiB, seconds per request on the y axis. On a CPU the plan's bytes are drawn."""
    figure = import_module("matplotlib.figure").Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, (plan, result) in enumerate(measured, 1):
        at = ((result.peak_bytes or plan.memory.peak_per_gpu_bytes) / GIB, result.per_request_seconds)
        if plan.device == "cuda":
            predicted = (plan.memory.peak_per_gpu_bytes / GIB, plan.time.per_request_seconds)
            axes.plot(*zip(at, predicted, strict=True), color=GREY, linewidth=0.8)
            axes.scatter(*predicted, s=26, facecolors="none", edgecolors=GREY, zorder=2)
        axes.scatter(*at, s=40, color=BLUE, zorder=3, label=f"{number}: {_words(plan)}")
        axes.annotate(str(number), at, xytext=(5, 5), textcoords="offset points", fontsize=8, color=INK)
    first = measured[0][0]
    on_cpu = first.device == "cpu"
    title = (
        "seconds measured on the CPU"
        if on_cpu
        else f"{first.gpu_product}, measured (filled), predicted (open)"
    )
    axes.set_title(f"{first.model.name}: {title}", loc="left", fontsize=11)
    axes.set_xlabel("peak per rank in GiB, as planned" if on_cpu else "peak per GPU in GiB")
    axes.set_ylabel("seconds per request")
    axes.margins(0.08)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(color="#e4e8ec", linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), frameon=False, fontsize=8, handlelength=0)
    figure.savefig(file)


def _words(plan: Plan) -> str:
    layout = layout_summary(plan.layout, plan.gpus_per_replica)
    return f"{size_words(plan.shapes[0])}, {layout}, {residency_summary(plan.residency)}"
