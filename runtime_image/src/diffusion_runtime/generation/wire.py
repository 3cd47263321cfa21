"""Frames on the pipes between parent and rank: two lengths, a JSON header, raw bytes. No pickle.

Torch-free. A frame is 4 bytes header length, 4 bytes body length (both big-endian), the header, the body.
"""

from __future__ import annotations

import asyncio
import json
import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

MAX_HEADER_BYTES = 4 * 1024 * 1024
MAX_BODY_BYTES = 1024 * 1024 * 1024
_LENGTHS = struct.Struct(">II")


class WireError(RuntimeError):
    """The other side sent something that is no frame."""


@dataclass(frozen=True)
class Frame:
    """`header["kind"]` says what it is; `body` holds picture bytes or nothing."""

    header: dict[str, Any]
    body: bytes = b""

    @property
    def kind(self) -> str:
        """What this frame is."""
        return str(self.header.get("kind"))


def encode(header: dict[str, Any], body: bytes = b"") -> bytes:
    """The bytes of one frame; WireError when it is larger than a reader would accept."""
    text = json.dumps(header).encode()
    _check(len(text), len(body))
    return _LENGTHS.pack(len(text), len(body)) + text + body


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next frame of a blocking stream; None at its end. WireError on a broken frame."""
    prefix = stream.read(_LENGTHS.size)
    if len(prefix) < _LENGTHS.size:
        return None
    header_bytes, body_bytes = _lengths(prefix)
    text, body = stream.read(header_bytes), stream.read(body_bytes)
    if len(text) < header_bytes or len(body) < body_bytes:
        return None
    return Frame(_parse(text), body)


async def read_frame_async(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame of an asyncio stream; None at its end. WireError on a broken frame."""
    try:
        header_bytes, body_bytes = _lengths(await reader.readexactly(_LENGTHS.size))
        text = await reader.readexactly(header_bytes)
        body = await reader.readexactly(body_bytes)
    except asyncio.IncompleteReadError:
        return None
    return Frame(_parse(text), body)


def _lengths(prefix: bytes) -> tuple[int, int]:
    header_bytes, body_bytes = _LENGTHS.unpack(prefix)
    _check(header_bytes, body_bytes)
    return header_bytes, body_bytes


def _check(header_bytes: int, body_bytes: int) -> None:
    if header_bytes > MAX_HEADER_BYTES or body_bytes > MAX_BODY_BYTES:
        raise WireError(f"frame of {header_bytes} + {body_bytes} bytes is larger than the limit")


def _parse(text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except ValueError as error:
        raise WireError(f"frame header is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise WireError("frame header is not a JSON object")
    return header
