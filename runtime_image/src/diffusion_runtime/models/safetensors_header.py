"""Reads the header of a safetensors file and checks it against the file's size; never the weights.

A header that lies about its own length or about its tensors is told apart from a truncated file. The text
may also come from elsewhere (`header_length`, `parse_header`): a remote file is judged by the same rules.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from diffusion_runtime.planning.errors import BadModelFolder

LENGTH_BYTES = 8
_LARGEST_HEADER_BYTES = 100 * 2**20
_DTYPE_BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2,
    "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of a file: its elements and its bytes, from byte `offset` of the file on."""

    elements: int
    stored_bytes: int
    shape: tuple[int, ...]
    dtype: str
    path: Path
    offset: int


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Tensor name -> size and place. Raises BadModelFolder naming the file and what is wrong with it."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = header_length(path, file.read(LENGTH_BYTES), size)
            text = file.read(length)
    except OSError as error:
        raise BadModelFolder(f"{path} cannot be read: {error.strerror or error}.") from error
    return parse_header(path, text, size)


def header_length(path: Path, prefix: bytes, size: int) -> int:
    """Bytes of the header's text, which follows the first `LENGTH_BYTES` of a file of `size` bytes."""
    length = int.from_bytes(prefix, "little")
    if len(prefix) < LENGTH_BYTES:
        raise BadModelFolder(f"{path} is no safetensors file: it has only {size} bytes.")
    if length > min(size - LENGTH_BYTES, _LARGEST_HEADER_BYTES):
        raise BadModelFolder(
            f"{path} says that its header has {length} bytes, but the file has {size}: "
            "it is truncated or no safetensors file."
        )
    return length


def parse_header(path: Path, text: bytes, size: int) -> dict[str, TensorEntry]:
    """What the header `text` of a file of `size` bytes describes. Raises BadModelFolder."""
    return _entries(path, text, LENGTH_BYTES + len(text), size)


def _entries(path: Path, text: bytes, start: int, size: int) -> dict[str, TensorEntry]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadModelFolder(f"{path} has a header that is not JSON.") from error
    if not isinstance(header, dict):
        raise BadModelFolder(f"{path} has a header that is not a table of tensors.")
    entries: dict[str, TensorEntry] = {}
    data_bytes = size - start
    end = 0
    for name, raw in header.items():
        if name == "__metadata__":
            continue
        entry = _entry(path, name, raw, start)
        entries[name] = entry
        end = max(end, entry.offset - start + entry.stored_bytes)
    if end > data_bytes:
        raise BadModelFolder(
            f"{path} is truncated: its tensors need {end} bytes and the file holds {data_bytes}."
        )
    if end < data_bytes:
        raise BadModelFolder(f"{path} holds {data_bytes} bytes of data, but its header describes only {end}.")
    return entries


def _entry(path: Path, name: str, raw: Any, data_start: int) -> TensorEntry:
    try:
        shape, (start, end), dtype = raw["shape"], raw["data_offsets"], raw["dtype"]
        elements = prod(int(side) for side in shape)
        whole = all(isinstance(n, int) and n >= 0 for n in (*shape, start, end))
    except (TypeError, KeyError, ValueError) as error:
        raise BadModelFolder(f"{path} describes tensor {name!r} without shape, dtype or offsets.") from error
    if dtype not in _DTYPE_BYTES:
        raise BadModelFolder(f"{path} stores tensor {name!r} as {dtype!r}, which is not understood.")
    if not whole or end - start != elements * _DTYPE_BYTES[dtype]:
        raise BadModelFolder(f"{path} describes tensor {name!r} with offsets that do not match its shape.")
    return TensorEntry(elements, end - start, tuple(shape), dtype, path, data_start + start)
