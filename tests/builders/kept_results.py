"""What a long suite has already found, so that a run that was cut off goes on.

A result file says over which sources it was made; one of other sources counts for nothing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def kept(file: Path, fresh: dict[str, Any]) -> dict[str, Any]:
    """The file's document when it has the input hash of `fresh`, else `fresh`."""
    if not file.exists():
        return fresh
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found if found["inputHash"] == fresh["inputHash"] else fresh
