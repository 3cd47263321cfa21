"""Predictions against every phase measured on one H200, fitted and held out, and against whole forwards."""

from __future__ import annotations

import pytest

from measured.anchors import Anchor, anchors
from measured.cells import Cell, cells
from measured.table import DOCUMENT, render

SLACK_BYTES = 150e6
CELLS = cells()
every_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda cell: cell.name)


def test_the_held_out_cells_are_those_of_other_sizes() -> None:
    held = [cell.name for cell in CELLS if cell.held_out]
    assert len(CELLS) == 38
    assert len(held) == 19
    for word in ("2048x2048", "1328x1328", "928x1664", "1280x720", "batch 2", "1024 text", "x33", "I2V"):
        assert any(word in name for name in held)
        assert not any(word in cell.name for cell in CELLS if not cell.held_out)


@every_cell
def test_weights_are_exact(cell: Cell) -> None:
    predicted, measured = cell.weights
    assert predicted == measured


@every_cell
def test_allocated(cell: Cell) -> None:
    predicted, measured = cell.allocated
    assert predicted == pytest.approx(measured, rel=0.10, abs=SLACK_BYTES)


@every_cell
def test_reserved(cell: Cell) -> None:
    predicted, measured = cell.reserved
    if cell.before_expansion:
        assert cell.allocated[1] - SLACK_BYTES < predicted < measured + SLACK_BYTES
    else:
        assert predicted == pytest.approx(measured, rel=0.15, abs=SLACK_BYTES)


@every_cell
def test_what_the_driver_shows(cell: Cell) -> None:
    predicted, measured = cell.driver
    if cell.before_expansion:
        assert predicted < 1.05 * measured
    else:
        assert predicted == pytest.approx(measured, rel=0.05)


@pytest.mark.parametrize("cell", [c for c in CELLS if c.phase == "denoise"], ids=lambda cell: cell.name)
def test_forward_times_eager_and_compiled(cell: Cell) -> None:
    predicted, measured = cell.seconds
    assert predicted == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("anchor", anchors(), ids=lambda anchor: anchor.name)
def test_forwards_on_one_and_two_gpus(anchor: Anchor) -> None:
    predicted, measured = anchor.seconds
    assert predicted == pytest.approx(measured, rel=0.15)
    if anchor.peak is not None:
        predicted_peak, measured_peak = anchor.peak
        assert predicted_peak == pytest.approx(measured_peak, rel=0.10, abs=SLACK_BYTES)


def test_cfg_on_two_gpus_halves_a_step() -> None:
    by_name = {anchor.name: anchor for anchor in anchors()}
    alone = by_name["Qwen-Image 1024x1024, two guidance passes in turn, eager"].seconds
    split = by_name["Qwen-Image 1024x1024, CFG on 2 GPUs, eager"].seconds
    assert alone[0] / split[0] == pytest.approx(alone[1] / split[1], rel=0.02)


def test_the_page_in_docs_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == render(), "run: PYTHONPATH=tests python -m measured.table"
