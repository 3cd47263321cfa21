"""`python -m benchmarks.gpu.table`: docs/results/engine-on-gpus.md from the row files. Measures nothing."""

from __future__ import annotations

import json
import re
import sys
from math import prod
from pathlib import Path
from typing import Any

from benchmarks.gpu.present_plan import present_plan

RESULTS = Path(__file__).parents[3] / "docs" / "results"
ROWS = RESULTS / "gpu-rows"
PAGE = RESULTS / "engine-on-gpus.md"
GIB = 2**30
INTRO = """# The engine on real GPUs

Random weights at full published size, ours beside plain diffusers in one run on one GPU; only ratios and each
row's own milliseconds mean anything. Each line comes from one file in [gpu-rows](gpu-rows), which says the
command, versions and every number. This page is made from those files by `make gpu-table`; a row is
measured by `make bench-gpu ROW=… ARGS=…` on a machine with a GPU.
"""
FORWARD = """
## One forward, resident and compiled

| model, size | GPU | attention | engine | compiled diffusers | ratio | engine's peak | latents differ |
|---|---|---|---|---|---|---|---|
"""
LAYERWISE = """
## Blocks streamed from the host, compiled

The floor is the bytes of all blocks over the measured rate of the host link; the last column is diffusers'
group offload.

| model, size | GPU | host link | floor | all streamed | ÷ floor | peak | half stays | ÷ all | diffusers |
|---|---|---|---|---|---|---|---|---|---|
"""
MEMORY = """
## End to end: driver-visible peak, planned and measured

Encoders, transformer and VAE at full size, measured by `diffusion-runtime bench`. The planned peak is that
of today's planner, whose gaps for FLUX.1 and Z-Image are fitted on these cells; the planned time is that of
the run. Qwen-Image at 1024x1024, and streamed whole at 2048x2048, was measured before segments of the
allocator could expand.

| model, size | GPU | weights | planned peak | measured | off by | planned time | measured |
|---|---|---|---|---|---|---|---|
"""
SEVERAL = """
## Two and four GPUs of one host

Measured by `diffusion-runtime bench --modes speed --layouts …`, one line after the other on one machine whose
CPUs computed beside (with four GPUs they were at rest). The last column is the time of one GPU over that of
the line. The planned peak is that of today's planner; what communicators hold is fitted on these lines.

**Ulysses is slower than one GPU here**, and the planner does not know. These prompts have 33 and 6 tokens,
which two or four ranks do not always divide; with unequal parts ranks tell each other their lengths in every
attention and wait for the device, and that is what differs from an earlier run with equal parts, where one
compiled forward of Ulysses 2 took 91.7 ms on two H200 ([planner-vs-measured.md](planner-vs-measured.md)) and
134 ms on one. It was not profiled. Wan on several GPUs: not measured here.

| model, size, steps | GPU | layout | planned peak | measured | off by | planned time | measured | faster |
|---|---|---|---|---|---|---|---|---|
"""
LOADING = """
## From files to the GPU

16.4 GB in the page cache, `python tests/benchmarks/loading_gpu.py`; the same bits arrive.

| GPU | ours | safetensors' load_file | ratio | host arena filled and registered |
|---|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [json.loads(file.read_text()) for file in sorted(ROWS.glob("*.json"))]
    single = [row for row in rows if isinstance(row, dict)]
    forward = [line for row in single if row.get("row") in ("forward", "flash") for line in _forward(row)]
    layerwise = [_layerwise(row) for row in single if row.get("row") == "layerwise"]
    sweeps = [row for row in rows if isinstance(row, list)]
    entries = [entry for row in sweeps for entry in row]
    several = _several([entry for entry in entries if _of_several(entry)])
    memory = [_memory(entry) for entry in entries if not _of_several(entry)]
    loading = [_loading(row) for row in single if "load_file_gb_per_s" in row]
    parts = {
        FORWARD: forward,
        LAYERWISE: layerwise,
        MEMORY: memory,
        SEVERAL: several,
        LOADING: loading,
    }
    return INTRO + "".join(head + "".join(lines) for head, lines in parts.items() if lines)


def _forward(row: dict[str, Any]) -> list[str]:
    theirs = row["cases"]["diffusers compiled"]
    lines = []
    for name, case in row["cases"].items():
        if not name.startswith("engine") or "forward_ms" not in case:
            continue
        ratio = case["forward_ms"] / theirs["forward_ms"]
        latents = next((v for k, v in row["latents"].items() if k.startswith(name)), None)
        attention = "FlashAttention-4" if "flash4" in name else "native"
        lines.append(
            _line(
                _what(row),
                row["gpu"],
                attention,
                f"{case['forward_ms']:.1f} ms",
                f"{theirs['forward_ms']:.1f} ms",
                f"**{ratio:.3f}**",
                f"{case['peak_allocated_bytes'] / GIB:.1f} GiB",
                "" if latents is None else f"{latents:.4f}",
            )
        )
    return lines


def _layerwise(row: dict[str, Any]) -> str:
    everything, half = row["cases"]["engine streams all"], row["cases"]["engine streams half"]
    ratios = row["ratios"]
    return _line(
        _what(row),
        row["gpu"],
        f"{row['hostLinkBytesPerSecond'] / 1e9:.1f} GB/s",
        f"{row['floorMs']:.0f} ms",
        f"{everything['forward_ms']:.0f} ms",
        f"**{ratios['all / (bytes / host link)']:.3f}**",
        f"{everything['peak_allocated_bytes'] / GIB:.1f} GiB",
        f"{half['forward_ms']:.0f} ms",
        f"**{ratios['half / all']:.3f}**",
        f"{ratios['diffusers group offload / (bytes / host link)']:.3f}",
    )


def _of_several(entry: dict[str, Any]) -> bool:
    """Whether a layout was asked for; one GPU is what the others are compared with."""
    return any("=" in wish for wish in entry["chosenBy"])


def _several(entries: list[dict[str, Any]]) -> list[str]:
    """Fewest GPUs first; each product has its own line of one GPU."""
    alone = {
        entry["gpuProduct"]: entry["measuredRequestSeconds"]
        for entry in entries
        if entry["layout"] == "1 GPU"
    }
    return [
        _line(
            f"{entry['model']} {entry['size']}, {entry['steps']} steps",
            entry["gpuProduct"],
            entry["layout"],
            *_peaks_and_times(entry),
            f"**{alone[entry['gpuProduct']] / entry['measuredRequestSeconds']:.2f}**",
        )
        for entry in sorted(entries, key=lambda entry: (entry["gpuProduct"], _gpus(entry)))
    ]


def _gpus(entry: dict[str, Any]) -> int:
    return prod(int(word) for word in re.findall(r"=(\d+)", entry["chosenBy"][0]))


def _memory(entry: dict[str, Any]) -> str:
    what = f"{entry['model']} {entry['size']}"
    return _line(what, entry["gpuProduct"], entry["residency"], *_peaks_and_times(entry))


def _peaks_and_times(entry: dict[str, Any]) -> tuple[str, ...]:
    plan = present_plan(entry)
    planned = entry["plannedPeakBytes"] if plan is None else plan.memory.peak_per_gpu_bytes
    measured = entry["measuredPeakBytes"]
    return (
        f"{planned / GIB:.1f} GiB",
        f"{measured / GIB:.1f} GiB",
        f"**{100 * (measured / planned - 1):+.1f} %**",
        f"{entry['plannedRequestSeconds']:.2f} s",
        f"{entry['measuredRequestSeconds']:.2f} s",
    )


def _loading(row: dict[str, Any]) -> str:
    return _line(
        row["gpu"],
        f"{row['resident_read_gb_per_s']:.1f} GB/s",
        f"{row['load_file_gb_per_s']:.1f} GB/s",
        f"**{row['times_faster']:.1f}**",
        f"{row['layerwise_fill_and_lock_gb_per_s']:.1f} GB/s",
    )


def _what(row: dict[str, Any]) -> str:
    request = row["request"]
    frames = f"x{request['frames']}" if request.get("frames", 1) > 1 else ""
    return f"{row['model']} {request['width']}x{request['height']}{frames}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def main() -> int:
    """Write the page; with `--check` say whether it is current."""
    current = page()
    if "--check" in sys.argv[1:]:
        if PAGE.is_file() and PAGE.read_text() == current:
            return 0
        sys.stderr.write(f"{PAGE} is not what its row files say; run make gpu-table.\n")
        return 1
    PAGE.write_text(current)
    return 0


if __name__ == "__main__":
    sys.exit(main())
