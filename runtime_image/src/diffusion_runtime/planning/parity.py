"""What the engine's parity suite has shown to draw the same picture as one plain GPU, and what it has not.

The suite writes `parity.json` beside this file: family -> `passed` and `failed`, names of layout axes and
residencies. What failed is not offered. What no run covers is the family file's own claim, and plans say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from diffusion_runtime.planning.facts import ModelFacts

PARITY_FILE = Path(__file__).with_name("parity.json")
Outcome = Literal["passed", "failed"]


def not_shown(family: str, used: Iterable[str], file: Path = PARITY_FILE) -> tuple[str, ...]:
    """Those of the axes and residencies in use that no parity run has passed, in the order given."""
    passed = _names(family, "passed", file)
    return tuple(name for name in used if name not in passed)


def without_failed(facts: ModelFacts, file: Path = PARITY_FILE) -> ModelFacts:
    """Facts that claim nothing that a parity run has refuted."""
    failed = _names(facts.model.family, "failed", file)
    if not failed:
        return facts
    components = tuple(
        component.model_copy(
            update={"correct_residencies": tuple(m for m in component.correct_residencies if m not in failed)}
        )
        for component in facts.components
    )
    axes = {
        name: tuple(axis for axis in getattr(facts, name) if axis not in failed)
        for name in ("correct_axes", "proven_axes")
    }
    return facts.model_copy(update={"components": components, **axes})


def _names(family: str, outcome: Outcome, file: Path) -> tuple[str, ...]:
    return tuple(_read(file).get(family, {}).get(outcome, ()))


@cache
def _read(file: Path) -> dict[str, dict[Outcome, list[str]]]:
    if not file.exists():
        return {}
    found: dict[str, dict[Outcome, list[str]]] = json.loads(file.read_text(encoding="utf-8"))
    return found
