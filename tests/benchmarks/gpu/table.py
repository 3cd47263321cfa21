"""`python -m benchmarks.gpu.table`: docs/results/engine-on-gpus.md from the row files. Measures nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

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

Encoders, transformer and VAE at full size, measured by `diffusion-runtime bench`. Z-Image's figures are those
that it printed, to 0.1 GiB. Qwen-Image at 1024x1024, and streamed whole at 2048x2048, was measured before
segments of the allocator could expand.

| model, size | GPU | weights | planned peak | measured | off by | planned time | measured |
|---|---|---|---|---|---|---|---|
"""
SEVERAL = """
## Two GPUs of one host

Measured by `diffusion-runtime bench --modes speed --layouts …`, one line after the other on one machine whose
CPUs computed beside. The last column is the time of one GPU over that of the line. Other layouts and four
GPUs: not measured here; `--layouts gpus=1,cfg=2,cfg=1+ulysses=2,cfg=2+fsdp` measures them.

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
    several = [line for row in sweeps if _of_several(row) for line in _several(row)]
    memory = [_memory(entry) for row in sweeps if not _of_several(row) for entry in row]
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


def _of_several(sweep: list[dict[str, Any]]) -> bool:
    return any(entry["layout"] != "1 GPU" for entry in sweep)


def _several(sweep: list[dict[str, Any]]) -> list[str]:
    alone = next(entry for entry in sweep if entry["layout"] == "1 GPU")
    return [
        _line(
            f"{entry['model']} {entry['size']}, {entry['steps']} steps",
            entry["gpuProduct"],
            entry["layout"],
            *_peaks_and_times(entry),
            f"**{alone['measuredRequestSeconds'] / entry['measuredRequestSeconds']:.2f}**",
        )
        for entry in sweep
    ]


def _memory(entry: dict[str, Any]) -> str:
    what = f"{entry['model']} {entry['size']}"
    return _line(what, entry["gpuProduct"], entry["residency"], *_peaks_and_times(entry))


def _peaks_and_times(entry: dict[str, Any]) -> tuple[str, ...]:
    planned, measured = entry["plannedPeakBytes"], entry["measuredPeakBytes"]
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
