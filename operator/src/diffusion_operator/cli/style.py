"""Colours and columns for the terminal. Plain text when the output is no terminal or NO_COLOR is set."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

WIDTH = 96
_CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True)
class Style:
    """Paints words, or leaves them alone."""

    colour: bool = False

    def paint(self, text: str, *names: str) -> str:
        """`text` in the named colours and weights."""
        if not self.colour or not text:
            return text
        return f"\x1b[{';'.join(_CODES[name] for name in names)}m{text}\x1b[0m"

    def heading(self, text: str) -> str:
        """The title of a section."""
        return self.paint(text, "bold", "cyan")


def style_for(stream: TextIO) -> Style:
    """Colour only for a terminal, and only when the user did not say no (NO_COLOR)."""
    return Style(
        colour=stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    )


def bullet(text: str, mark: str = "•") -> list[str]:
    """One sentence, wrapped, with a mark before its first line."""
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"  {mark} ", subsequent_indent="    ", break_long_words=False
    ) or [f"  {mark}"]


def table(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """Rows as aligned columns, indented by two; the columns in `right` are aligned to the right."""
    if not rows:
        return []
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  " + "  ".join(_cell(cell, widths[i], i in right) for i, cell in enumerate(row)).rstrip()
        for row in rows
    ]


def bar(share: float, width: int = 20) -> str:
    """A share between 0 and 1 as a bar; anything above nothing shows at least one mark."""
    filled = max(1, round(min(share, 1.0) * width)) if share > 0 else 0
    return "█" * filled + "░" * (width - filled)


def _cell(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
