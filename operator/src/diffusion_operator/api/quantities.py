"""Kubernetes quantities, durations and memory reserves as numbers.

Exact arithmetic (Fraction), so that "0.1" of something is not a float surprise. Source of the suffixes: the
Quantity type of the Kubernetes API.
"""

from __future__ import annotations

import re
from fractions import Fraction

_SUFFIXES: dict[str, Fraction] = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12),
    "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40),
    "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip
_QUANTITY = re.compile(
    r"([+-]?)([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([eE][+-]?[0-9]{1,3})|([KMGTPE]i|[numkMGTPE]))?"
)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
_MAX_LENGTH = 64


class BadQuantity(ValueError):
    """The text is not a Kubernetes quantity."""


def parse_quantity(value: object) -> Fraction:
    """Number of base units of 1, "8", "500m", "64Gi" or "1e3"; BadQuantity for anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Fraction(value)
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) and len(value) <= _MAX_LENGTH else None
    if match is None:
        shown = repr(value)[:80]
        raise BadQuantity(f"{shown} is not a quantity; write for example 8, 500m or 64Gi")
    sign, digits, exponent, suffix = match.groups()
    number = Fraction(digits.rstrip(".") or "0") * _SUFFIXES[suffix or ""]
    if exponent:
        number *= Fraction(10) ** int(exponent[1:])
    return -number if sign == "-" else number


def parse_whole(value: object) -> int:
    """A quantity that must be a whole number of at least 0, such as GPUs or bytes (bytes are rounded up)."""
    number = parse_quantity(value)
    if number < 0:
        raise BadQuantity(f"{value!r} is negative; it must be at least 0")
    return -(-number.numerator // number.denominator)


def parse_count(value: object) -> int:
    """A quantity that counts things that cannot be divided, such as GPUs."""
    number = parse_quantity(value)
    if number < 0 or number.denominator != 1:
        raise BadQuantity(f"{value!r} is not a count; it must be a whole number of at least 0")
    return int(number)


def parse_duration_seconds(text: str) -> int:
    """Seconds of "90s", "15m" or "1h30m"; BadQuantity for anything else and for 0."""
    match = _DURATION.fullmatch(text)
    seconds = 0
    if match is not None:
        hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    if seconds < 1:
        raise BadQuantity(f"{text!r} is not a duration of at least 1s; write for example 90s, 15m or 1h30m")
    return seconds


def parse_memory_reserve(text: str) -> tuple[float | None, int | None]:
    """(share, bytes) of a memory reserve; exactly one of them is set. "5%" is (0.05, None)."""
    if text.endswith("%"):
        return float(Fraction(text[:-1]) / 100), None
    return None, parse_whole(text)
