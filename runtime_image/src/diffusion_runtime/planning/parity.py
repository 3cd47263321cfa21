"""What the engine's parity suite has shown to draw the same picture as one plain GPU.

The suite writes `parity.json` beside this file: family -> names of layout axes and residencies that passed.
While it does not exist, what is correct is the family file's own claim, and plans say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

PARITY_FILE = Path(__file__).with_name("parity.json")


def not_shown(family: str, used: Iterable[str], file: Path = PARITY_FILE) -> tuple[str, ...]:
    """Those of the axes and residencies in use that no parity run covers, in the order given."""
    passed = _passed(file).get(family, ())
    return tuple(name for name in used if name not in passed)


@cache
def _passed(file: Path) -> dict[str, tuple[str, ...]]:
    if not file.exists():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))
    return {family: tuple(names) for family, names in found.items()}
