"""Errors that carry intent: what the user gave, why it cannot work, and what would.

Each is a `ValueError` with one clear sentence. "Does not fit now" is not an error: it is a `NoPlan`.
"""

from __future__ import annotations


class BadRequest(ValueError):
    """The request can never be met as written. `field` is the dotted wire name of what is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class UnknownHardware(ValueError):
    """A GPU product that is in no table and came without its memory."""


class UnknownModel(ValueError):
    """A model id without built-in facts; the message names the known ones."""


class BadModelFolder(ValueError):
    """A folder that is no loadable diffusers pipeline; the message names the file and what is wrong in it."""
