"""Says what a picture shows from its pixels alone: background, and the colour, shape and place of one object.

Deterministic and independent of the model: colours are the nearest palette name, shapes the best overlap with
templates drawn by `pictures.py`. It knows flat shapes on flat backgrounds and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from .pictures import distance
from .scenes import COLOURS, PALETTE, POSITIONS, SHAPES

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

TEMPLATE_SIDE = 64
LEAST_OVERLAP = 0.6
COLOUR_TOLERANCE = 60.0
LEAST_PIXELS = 40


@dataclass(frozen=True)
class Seen:
    """What was found; a name is '' where nothing fits well enough. `overlap` is of the best template."""

    background: str
    colour: str
    shape: str
    position: str
    overlap: float


def look(picture: Pixels) -> Seen:
    """Judges a picture uint8 [height, width, 3] that should hold one object."""
    border = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3)])
    behind = np.median(border, axis=0)
    away = np.linalg.norm(picture.astype(np.float64) - behind, axis=2)
    return _describe(picture, away > 45, colour_name(behind))


def look_for(picture: Pixels, colour: str) -> Seen:
    """Judges only the pixels nearest to `colour`, for pictures with several objects of different colours."""
    palette = np.array(list(PALETTE.values()), dtype=np.float64)
    nearest = np.linalg.norm(picture[:, :, None].astype(np.float64) - palette, axis=3).argmin(axis=2)
    border = np.concatenate([picture[:3].reshape(-1, 3), picture[-3:].reshape(-1, 3)])
    mask = _without_edges(nearest == COLOURS.index(colour))
    return _describe(picture, mask, colour_name(np.median(border, axis=0)))


def _without_edges(mask: Mask) -> Mask:
    """Drops what is thinner than three pixels: the blended rim between two colours may look like a third."""
    height, width = mask.shape
    shifts = [(y, x) for y in range(3) for x in range(3)]
    framed = np.pad(mask, 1)
    core = np.logical_and.reduce([framed[y : y + height, x : x + width] for y, x in shifts])
    framed = np.pad(core, 1)
    grown = np.logical_or.reduce([framed[y : y + height, x : x + width] for y, x in shifts])
    return np.asarray(grown, dtype=np.bool_)


def colour_name(rgb: NDArray[np.float64]) -> str:
    """The palette's nearest name, or '' if even that is far."""
    far = np.linalg.norm(np.array(list(PALETTE.values()), dtype=np.float64) - rgb, axis=1)
    return COLOURS[int(far.argmin())] if far.min() < COLOUR_TOLERANCE else ""


def _describe(picture: Pixels, mask: Mask, background: str) -> Seen:
    if mask.sum() < LEAST_PIXELS:
        return Seen(background, "", "", "", 0.0)
    top, bottom, left, right = _bounds(mask)
    colour = colour_name(np.median(picture[mask], axis=0))
    overlaps = {shape: _overlap(_normalized(mask), _template(shape)) for shape in SHAPES}
    shape = max(overlaps, key=overlaps.__getitem__)
    x = (left + right) / 2 / mask.shape[1]
    y = (top + bottom) / 2 / mask.shape[0]
    position = min(POSITIONS, key=lambda name: abs(POSITIONS[name][0] - x) + abs(POSITIONS[name][1] - y))
    best = overlaps[shape]
    return Seen(background, colour, shape if best >= LEAST_OVERLAP else "", position, round(best, 3))


def _bounds(mask: Mask) -> tuple[float, float, float, float]:
    """Top, bottom, left, right of the mask, stray pixels left out."""
    rows, columns = mask.nonzero()
    top, bottom = np.quantile(rows, (0.003, 0.997))
    left, right = np.quantile(columns, (0.003, 0.997))
    return float(top), float(bottom) + 1, float(left), float(right) + 1


def _normalized(mask: Mask) -> Mask:
    """The mask's bounding box scaled to fill a square of `TEMPLATE_SIDE`, its proportions kept."""
    top, bottom, left, right = _bounds(mask)
    side = max(bottom - top, right - left)
    steps = (np.arange(TEMPLATE_SIDE) + 0.5) / TEMPLATE_SIDE - 0.5
    rows = np.floor((top + bottom) / 2 + steps * side).astype(int)
    columns = np.floor((left + right) / 2 + steps * side).astype(int)
    inside = ((rows >= 0) & (rows < mask.shape[0]))[:, None] & ((columns >= 0) & (columns < mask.shape[1]))[
        None
    ]
    picked = mask[rows.clip(0, mask.shape[0] - 1)][:, columns.clip(0, mask.shape[1] - 1)]
    return np.asarray(picked & inside, dtype=np.bool_)


@cache
def _template(shape: str) -> Mask:
    line = torch.linspace(-1.2, 1.2, 256)
    ys, xs = torch.meshgrid(line, line, indexing="ij")
    return _normalized(np.asarray((distance(shape, xs, ys) < 0).numpy(), dtype=np.bool_))


def _overlap(one: Mask, other: Mask) -> float:
    return float((one & other).sum() / (one | other).sum())
