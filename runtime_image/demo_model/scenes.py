"""What a demo picture may show, and how people ask for it.

A scene is one or two flat shapes on a flat background. `sample_scene` makes one up, `caption` words it.
Combinations of shape, colour and background that `is_held_out` names never occur in training: the score is
measured on them alone. This module will not draw anything; `pictures.py` does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SHAPES: tuple[str, ...] = (
    "circle",
    "square",
    "triangle",
    "star",
    "ring",
    "cross",
    "diamond",
    "heart",
    "moon",
)
PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 160, 70),
    "blue": (40, 80, 210),
    "yellow": (245, 215, 50),
    "orange": (245, 140, 30),
    "purple": (130, 60, 180),
    "pink": (245, 150, 190),
    "cyan": (70, 200, 220),
    "white": (250, 250, 250),
    "black": (20, 20, 20),
    "gray": (135, 135, 140),
}
COLOURS: tuple[str, ...] = tuple(PALETTE)
SIZES: dict[str, tuple[float, float]] = {"small": (0.11, 0.14), "medium": (0.19, 0.23), "large": (0.30, 0.35)}
POSITIONS: dict[str, tuple[float, float]] = {
    "centre": (0.5, 0.5),
    "left": (0.24, 0.5),
    "right": (0.76, 0.5),
    "top": (0.5, 0.24),
    "bottom": (0.5, 0.76),
    "top left": (0.24, 0.24),
    "top right": (0.76, 0.24),
    "bottom left": (0.24, 0.76),
    "bottom right": (0.76, 0.76),
}

_SIZE_WORDS = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium", "medium-sized"),
    "large": ("large", "large", "big", "huge"),
}
_SHAPE_WORDS: dict[str, tuple[str, ...]] = {
    "circle": ("circle", "circle", "circle", "disc", "dot"),
    "square": ("square", "square", "square", "box"),
    "cross": ("cross", "cross", "plus sign"),
    "diamond": ("diamond", "diamond", "rhombus"),
    "moon": ("moon", "moon", "crescent", "crescent moon"),
}
_POSITION_WORDS: dict[str, tuple[str, ...]] = {
    "centre": ("in the centre", "in the center", "in the middle", "at the center"),
    "left": ("on the left", "on the left side", "at the left", "to the left"),
    "right": ("on the right", "on the right side", "at the right", "to the right"),
    "top": ("at the top", "in the top", "near the top", "at the top edge"),
    "bottom": ("at the bottom", "in the bottom", "near the bottom", "at the bottom edge"),
}
_CORNER_WORDS = (
    "in the {v} {h} corner",
    "in the {v} {h}",
    "at the {v} {h}",
    "in the {u} {h} corner",
    "in the {u} {h}",
)
_BACKGROUND_WORDS = (
    "on a {b} background",
    "on a {b} background",
    "on a {b} background",
    "on {b}",
    "against a {b} background",
    "with a {b} background",
    "over a {b} background",
)
_OPENINGS = (
    "",
    "",
    "",
    "",
    "",
    "a picture of ",
    "an image of ",
    "a drawing of ",
    "draw ",
    "picture of ",
    "show me ",
)


@dataclass(frozen=True)
class Item:
    """One shape. `x`, `y` are fractions of the width and height, `radius` a fraction of the shorter side."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """One or two items on a background; `relation` is '' for one item, else 'beside' or 'above'."""

    items: tuple[Item, ...]
    background: str
    position: str
    relation: str


def is_held_out(shape: str, colour: str, background: str) -> bool:
    """About one combination in ten is kept out of training."""
    index = SHAPES.index(shape) * 37 + COLOURS.index(colour) * 11 + COLOURS.index(background) * 5
    return index % 10 == 3


def _pick(rng: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[int(rng.integers(len(words)))]


def _item(rng: np.random.Generator, background: str, size: str, scale: float = 1.0) -> Item:
    while True:
        shape, colour = _pick(rng, SHAPES), _pick(rng, COLOURS)
        if colour != background and not is_held_out(shape, colour, background):
            break
    low, high = SIZES[size]
    return Item(shape, colour, size, 0.5, 0.5, float(rng.uniform(low, high)) * scale)


def _place(rng: np.random.Generator, item: Item, x: float, y: float, aspect: tuple[float, float]) -> Item:
    """Puts the item near (x, y) and wholly inside the picture; `aspect`: (width, height) / the shorter."""
    x_margin, y_margin = (item.radius + 0.03) / aspect[0], (item.radius + 0.03) / aspect[1]
    x, y = x + float(rng.uniform(-0.03, 0.03)), y + float(rng.uniform(-0.03, 0.03))
    return replace(
        item,
        x=min(max(x, x_margin), 1 - x_margin),
        y=min(max(y, y_margin), 1 - y_margin),
    )


def sample_scene(rng: np.random.Generator, width: int = 128, height: int = 128) -> Scene:
    """One random training scene for a picture of `width` x `height` pixels."""
    shorter = min(width, height)
    aspect = (width / shorter, height / shorter)
    background = "white" if rng.random() < 0.15 else _pick(rng, COLOURS)
    if rng.random() < 0.7:
        size, position = _pick(rng, tuple(SIZES)), _pick(rng, tuple(POSITIONS))
        if rng.random() < 0.35:
            size, position = "medium", "centre"
        x, y = POSITIONS[position]
        return Scene((_place(rng, _item(rng, background, size), x, y, aspect),), background, position, "")
    sizes = ("small", "medium")
    first = _item(rng, background, _pick(rng, sizes), 0.9)
    second = _item(rng, background, _pick(rng, sizes), 0.9)
    if rng.random() < 0.6:
        spots, relation = ((0.27, 0.5), (0.73, 0.5)), "beside"
    else:
        spots, relation = ((0.5, 0.27), (0.5, 0.73)), "above"
    placed = (_place(rng, first, *spots[0], aspect), _place(rng, second, *spots[1], aspect))
    return Scene(placed, background, "", relation)


def _noun(rng: np.random.Generator, item: Item, say_size: bool) -> str:
    shape = _pick(rng, _SHAPE_WORDS.get(item.shape, (item.shape,)))
    colour = "grey" if item.colour == "gray" and rng.random() < 0.5 else item.colour
    size = _pick(rng, _SIZE_WORDS[item.size]) if say_size else ""
    words = " ".join(word for word in (size, colour, shape) if word)
    choice = rng.random()
    if choice < 0.78:
        article = "an " if words[0] in "aeiou" else "a "
        return article + words
    return ("one " if choice < 0.82 else "the " if choice < 0.86 else "") + words


def _where(rng: np.random.Generator, position: str) -> str:
    if position in _POSITION_WORDS:
        return _pick(rng, _POSITION_WORDS[position])
    vertical, horizontal = position.split()
    upper = {"top": "upper", "bottom": "lower"}[vertical]
    return _pick(rng, _CORNER_WORDS).format(v=vertical, h=horizontal, u=upper)


def _join(rng: np.random.Generator, noun: str, where: str, behind: str) -> str:
    parts = [part for part in (where, behind) if part]
    if len(parts) == 2 and rng.random() < 0.35:
        parts.reverse()
    separator = ", " if rng.random() < 0.12 else " "
    return separator.join([noun, *parts])


def caption(rng: np.random.Generator, scene: Scene) -> str:
    """Words for a scene. Unsaid is what people leave unsaid: a white background, the plain middle."""
    colour = "grey" if scene.background == "gray" and rng.random() < 0.5 else scene.background
    say_background = scene.background != "white" or rng.random() < 0.4
    behind = _pick(rng, _BACKGROUND_WORDS).format(b=colour) if say_background else ""
    behind = behind.replace("a orange", "an orange")
    first = scene.items[0]
    if len(scene.items) == 1:
        plain = scene.position == "centre"
        where = _where(rng, scene.position) if not plain or rng.random() < 0.4 else ""
        noun = _noun(rng, first, say_size=first.size != "medium" or rng.random() < 0.2)
        text = _join(rng, noun, where, behind)
    else:
        text = _join(rng, _two_items(rng, scene), "", behind)
    text = _pick(rng, _OPENINGS) + text
    if rng.random() < 0.3:
        text = text[0].upper() + text[1:]
    return text + ("." if rng.random() < 0.15 else "")


def _two_items(rng: np.random.Generator, scene: Scene) -> str:
    say_size = rng.random() < 0.6
    one, two = (_noun(rng, item, say_size) for item in scene.items)
    if scene.relation == "beside":
        patterns: tuple[str, ...] = (
            "{one} and {two}",
            "{one} next to {two}",
            "{one} to the left of {two}",
            "{one} left of {two}",
            "{two} to the right of {one}",
            "{one} on the left and {two} on the right",
        )
    else:
        patterns = (
            "{one} above {two}",
            "{one} over {two}",
            "{two} below {one}",
            "{two} under {one}",
            "{one} at the top and {two} at the bottom",
        )
    return _pick(rng, patterns).format(one=one, two=two)
