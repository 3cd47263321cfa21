"""Bodies of requests, read to a limit and no further."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from .openai_errors import ApiError


async def json_body(request: Request, most_bytes: int) -> Any:
    """The parsed body; ApiError 413 beyond the limit, 400 when it is no JSON."""
    chunks = bytearray()
    try:
        async for chunk in limited(request, most_bytes).stream():
            chunks += chunk
    except ClientDisconnect as gone:
        raise ApiError(400, "The client hung up before the body's end.", code="client_disconnected") from gone
    try:
        return json.loads(bytes(chunks))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not valid JSON: {error}.", code="invalid_json") from error


def limited(request: Request, most_bytes: int) -> Request:
    """The same request, whose reader raises ApiError 413 beyond the limit."""
    read = 0

    async def receive() -> Message:
        nonlocal read
        message = await request.receive()
        read += len(message.get("body", b""))
        if read > most_bytes:
            raise ApiError(413, f"The body is larger than {most_bytes} bytes.", code="body_too_large")
        return message

    return Request(request.scope, receive)
