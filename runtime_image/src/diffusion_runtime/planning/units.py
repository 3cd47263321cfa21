"""Reading and writing byte quantities. No other unit is converted here."""

from __future__ import annotations

import re

from diffusion_runtime.planning.errors import BadRequest

KIB, MIB, GIB, TIB = 2**10, 2**20, 2**30, 2**40
_UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "KI": KIB,
    "MI": MIB,
    "GI": GIB,
    "TI": TIB,
}
_PATTERN = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kKmMgGtT]?i?)[bB]?\s*$")
_LARGEST_BYTES = 1024 * TIB


def parse_bytes(text: str, field: str) -> int:
    """`20GiB`, `20Gi`, `20G`, `500M`, `1024` -> bytes. Raises BadRequest naming `field` and the text."""
    match = _PATTERN.match(text)
    if match is None:
        raise BadRequest(field, f"{field}: {text!r} is no size; write it like 20GiB or 500M.")
    size = int(float(match.group(1)) * _UNITS[match.group(2).upper()])
    if size > _LARGEST_BYTES:
        raise BadRequest(field, f"{field}: {text!r} is more than any machine has (1024TiB).")
    return size


def format_bytes(n: int) -> str:
    """`57.9GiB`, `512.0MiB`, `0B`: binary units, one decimal, no space. Negative numbers keep their sign."""
    size = abs(n)
    sign = "-" if n < 0 else ""
    for unit, factor in (("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if size >= factor:
            return f"{sign}{size / factor:.1f}{unit}"
    return f"{sign}{size}B"


def format_seconds(seconds: float) -> str:
    """`12.4 s`, `137 ms`, `3.1 min`."""
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min"
