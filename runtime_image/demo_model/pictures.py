"""Draws scenes as tensors, on any device, many at a time.

Each shape is a signed distance in pixels, so edges are anti-aliased and exact at every size. The same drawing
code makes the training pictures and the judge's templates. It will not choose scenes: `scenes.py` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from .scenes import COLOURS, PALETTE, SHAPES, Scene

FIELDS = 5  # shape, colour, x, y, radius


def encode_scenes(scenes: Sequence[Scene]) -> tuple[Tensor, Tensor]:
    """Scenes as numbers: items float32 [n, 2, 5] (shape -1 where absent) and backgrounds int64 [n]."""
    items = torch.full((len(scenes), 2, FIELDS), -1.0)
    backgrounds = torch.zeros(len(scenes), dtype=torch.long)
    for row, scene in enumerate(scenes):
        backgrounds[row] = COLOURS.index(scene.background)
        for column, item in enumerate(scene.items):
            numbers = (SHAPES.index(item.shape), COLOURS.index(item.colour), item.x, item.y, item.radius)
            items[row, column] = torch.tensor(numbers)
    return items, backgrounds


def draw(items: Tensor, backgrounds: Tensor, width: int, height: int) -> Tensor:
    """Pictures float32 [n, 3, height, width] in -1..1 on the device of `items`."""
    device = items.device
    colours = torch.tensor(list(PALETTE.values()), device=device, dtype=torch.float32) / 127.5 - 1
    pictures = colours[backgrounds][:, :, None, None].expand(-1, -1, height, width).clone()
    ys, xs = torch.meshgrid(
        torch.arange(height, device=device) + 0.5, torch.arange(width, device=device) + 0.5, indexing="ij"
    )
    for column in range(items.shape[1]):
        for shape in range(len(SHAPES)):
            rows = (items[:, column, 0] == shape).nonzero()[:, 0]
            if rows.numel() == 0:
                continue
            _, colour, x, y, radius = items[rows, column].unbind(1)
            radius_px = (radius * min(width, height))[:, None, None]
            dx = (xs - (x * width)[:, None, None]) / radius_px
            dy = (ys - (y * height)[:, None, None]) / radius_px
            cover = (0.5 - distance(SHAPES[shape], dx, dy) * radius_px).clamp(0, 1)[:, None]
            paint = colours[colour.long()][:, :, None, None]
            pictures[rows] = pictures[rows] * (1 - cover) + paint * cover
    return pictures


def distance(shape: str, x: Tensor, y: Tensor) -> Tensor:
    """Signed distance (negative inside) to a shape of radius 1 at the origin; y points down."""
    if shape == "circle":
        return torch.hypot(x, y) - 0.92
    if shape == "ring":
        return (torch.hypot(x, y) - 0.75).abs() - 0.2
    if shape == "moon":
        return torch.maximum(torch.hypot(x + 0.1, y) - 0.95, 0.8 - torch.hypot(x - 0.38, y))
    return _polygon_distance(outline(shape), x, y)


@cache
def outline(shape: str) -> tuple[tuple[float, float], ...]:
    """The corners of a polygonal shape, in order."""
    if shape == "square":
        return ((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82))
    if shape == "diamond":
        return ((0.0, -1.0), (0.72, 0.0), (0.0, 1.0), (-0.72, 0.0))
    if shape == "triangle":
        return ((0.0, -0.95), (1.0, 0.8), (-1.0, 0.8))
    if shape == "cross":
        a, b = 0.3, 0.95
        corners = ((a, b), (a, a), (b, a), (b, -a), (a, -a), (a, -b))
        return corners + tuple((-x, -y) for x, y in corners)
    if shape == "star":
        radii = (1.0, 0.42)
        return tuple(
            (radii[i % 2] * math.sin(i * math.pi / 5), 0.05 - radii[i % 2] * math.cos(i * math.pi / 5))
            for i in range(10)
        )
    if shape == "heart":
        turns = [2 * math.pi * i / 32 for i in range(32)]
        return tuple(
            (
                math.sin(t) ** 3 * 0.98,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t) + 2.5)
                / 16.5,
            )
            for t in turns
        )
    raise ValueError(f"shape {shape!r} is unknown; known: {', '.join(SHAPES)}")


def _polygon_distance(corners: tuple[tuple[float, float], ...], x: Tensor, y: Tensor) -> Tensor:
    """Exact distance to a polygon, signed by the crossing rule."""
    squared = torch.full_like(x, 1e9)
    inside = torch.zeros_like(x, dtype=torch.bool)
    for (ax, ay), (bx, by) in zip(corners, corners[-1:] + corners[:-1], strict=True):
        ex, ey = bx - ax, by - ay
        wx, wy = x - ax, y - ay
        along = ((wx * ex + wy * ey) / (ex * ex + ey * ey)).clamp(0, 1)
        squared = torch.minimum(squared, (wx - ex * along).square() + (wy - ey * along).square())
        if ey != 0:
            crosses = ((y >= ay) & (y < by)) | ((y >= by) & (y < ay))
            inside = inside ^ (crosses & (x < ax + ex * wy / ey))
    root = squared.sqrt()
    return torch.where(inside, -root, root)
