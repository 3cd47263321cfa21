"""Finds the repeated blocks of a component: the units of sharding (FSDP) and streaming (layerwise).

In this order, by tensor names alone: the family's explicit rule; direct repeated entries such as
`transformer_blocks.0` or `blocks.0`; modules of a repeated block class; common numbered paths. No torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

BlockRule = Literal["explicit", "direct", "class", "numbered", "none"]
COMMON_PATHS = (
    "layers", "model.layers", "encoder.layers", "encoder.block", "decoder.layers", "h", "transformer.h",
    "model.language_model.layers", "language_model.model.layers",
)  # fmt: skip
"""Numbered paths that models use without naming a block class."""
_Children = dict[str, int]


@dataclass(frozen=True)
class FoundBlocks:
    """Paths whose numbered children are the blocks, and the rule that found them."""

    rule: BlockRule
    paths: tuple[str, ...]


def find_blocks(
    elements: Mapping[str, int],
    *,
    explicit: tuple[str, ...] = (),
    block_classes: tuple[str, ...] = (),
    module_classes: Mapping[str, str] | None = None,
) -> FoundBlocks:
    """Block paths of a component, in the order of its tensors.

    `elements` maps tensor names to sizes. `module_classes` maps module paths to class names where the modules
    are known; a file's header does not tell them, so siblings with the same tensors count as one class.
    """
    numbered = _numbered(elements)
    if explicit:
        return FoundBlocks("explicit", tuple(path for path in explicit if path in numbered))
    direct = tuple(path for path, blocks in numbered.items() if _is_direct(path) and len(blocks) > 1)
    if direct:
        return FoundBlocks("direct", direct)
    if module_classes:
        by_class = _of_classes(numbered, block_classes, module_classes)
    else:
        by_class = tuple(path for path, blocks in numbered.items() if _alike(blocks))
    if by_class:
        return FoundBlocks("class", by_class)
    common = tuple(path for path in COMMON_PATHS if len(numbered.get(path, {})) > 1)
    return FoundBlocks("numbered" if common else "none", common)


def _numbered(elements: Mapping[str, int]) -> dict[str, dict[int, _Children]]:
    """Outermost numbered paths: path -> number -> tensors below it."""
    found: dict[str, dict[int, _Children]] = {}
    for name, size in elements.items():
        parts = name.split(".")
        at = next((i for i, part in enumerate(parts[:-1]) if part.isdigit() and i > 0), None)
        if at is None:
            continue
        children = found.setdefault(".".join(parts[:at]), {}).setdefault(int(parts[at]), {})
        children[".".join(parts[at + 1 :])] = size
    return found


def _is_direct(path: str) -> bool:
    return path == "blocks" or ("." not in path and path.endswith("_blocks"))


def _alike(blocks: Mapping[int, _Children]) -> bool:
    """Two or more numbered siblings with the same tensors of the same sizes."""
    first, *others = blocks.values()
    return bool(others) and all(other == first for other in others)


def _of_classes(
    numbered: Mapping[str, Mapping[int, _Children]], classes: tuple[str, ...], modules: Mapping[str, str]
) -> tuple[str, ...]:
    return tuple(
        path
        for path, blocks in numbered.items()
        if len(blocks) > 1 and all(modules.get(f"{path}.{number}") in classes for number in blocks)
    )
