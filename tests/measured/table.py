"""Writes docs/results/planner-vs-measured.md: every measured cell beside the planner's prediction.

`PYTHONPATH=tests python -m measured.table` writes it, `--check` only says whether it is up to date.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from measured.anchors import Anchor, anchors
from measured.cells import Cell, cells

DOCUMENT = Path(__file__).parents[2] / "docs" / "results" / "planner-vs-measured.md"
HEAD = """# The planner beside measurements

Written by `PYTHONPATH=tests python -m measured.table`; a test fails when this page is out of date.

Each cell is one phase alone on one H200 with random weights at full published size (2026-11-23, torch
2.11.0+cu130, diffusers 0.42.1, bfloat16). Coefficients of the memory and time formulas were fitted **only**
on cells at 512×512, 1024×1024 and 832×480 with 81 frames; the cells marked *held out* took no part in it
(one exception: the launch time of an encoder layer comes from the one text cell there is).
Bytes are MB (10⁶) above the weights, except the driver's total, which is all that the driver shows for the
process. Weights are exact to the byte in every cell. The bounds that tests hold per cell: allocated within
10 % or 150 MB, reserved within 15 % or 150 MB, the driver's total within 5 %, forward times within 15 %.
Segments of the allocator could not expand then. Gaps of whole decodes of FLUX.1 and Z-Image and of Z-Image's
forwards are since fitted on whole requests ([engine-on-gpus.md](engine-on-gpus.md)), so that their reserved
and driver's columns here only must not be above what was measured.

The formulas are in `planning/activations.py`, `planning/memory_model.py` and `planning/time_model.py`, the
coefficients in the family files under `models/`.

## Phases on one GPU

| cell | | allocated MB | reserved MB | driver total MB | time ms |
|---|---|---|---|---|---|
"""
MIDDLE = """
## Whole forwards on one and two GPUs

Medians of one transformer forward, or of a step of two guidance passes, on 2 × H200 (NVLink). Costs of
communication, launches and streaming were fitted on some of these rows; peaks are torch's allocated ones of
one rank.

| forward | predicted ms | measured ms | difference | peak predicted GiB | peak measured GiB |
|---|---|---|---|---|---|
"""
FOOT = """
## What the table says

- The largest errors of *reserved* memory are the clips of 33 frames: the allocator's gap has a part that does
  not grow with the clip, which cells of one length cannot tell apart.
- Text encoding was measured for Qwen3-4B only. The prediction of its memory is formula alone, too low by
  74 MB allocated and 82 MB reserved.
- Whole decodes at 2048×2048 run 15 to 18 % slower than predicted: the attention in the middle of the VAE
  grows with the square of the pixels, which two sizes cannot show. Decode times carry no bound.
- LTX-2 and MOVA were not measured at all; their plans say so.
"""


def row(cell: Cell) -> str:
    """One line of the first table."""
    pairs = [_pair(pair, 1e6) for pair in (cell.allocated, cell.reserved, cell.driver)]
    held = "*held out*" if cell.held_out else "fitted"
    return f"| {cell.name} | {held} | {' | '.join(pairs)} | {_pair(cell.seconds, 1e-3, digits=1)} |"


def anchor_row(anchor: Anchor) -> str:
    """One line of the second table."""
    predicted, measured = anchor.seconds
    peak = anchor.peak
    peaks = f"{peak[0] / 2**30:.2f} | {peak[1] / 2**30:.2f}" if peak else "– | –"
    difference = f"{100 * (predicted / measured - 1):+.1f} %"
    return f"| {anchor.name} | {1e3 * predicted:.1f} | {1e3 * measured:.1f} | {difference} | {peaks} |"


def render() -> str:
    """The whole page."""
    return HEAD + _lines(map(row, cells())) + MIDDLE + _lines(map(anchor_row, anchors())) + FOOT


def _pair(pair: tuple[float, float], unit: float, digits: int = 0) -> str:
    predicted, measured = pair
    error = 100 * (predicted / measured - 1)
    return f"{predicted / unit:,.{digits}f} / {measured / unit:,.{digits}f} ({error:+.1f} %)"


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in rows)


def main(arguments: list[str]) -> int:
    """Write the page, or with `--check` compare it. Exit status 1 when it is out of date."""
    page = render()
    if arguments == ["--check"]:
        return 0 if DOCUMENT.is_file() and DOCUMENT.read_text(encoding="utf-8") == page else 1
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
