"""An HTTP session that overhears the lists and streams which a watch library makes through it.

A watch library tells its handlers what exists, never what is gone since its last list, and not that a stream
is alive but quiet. Both stand in the bytes. Lists are handed to the listener whole and answered to the
library without their items: it needs only the resourceVersion to watch from, and no list is made twice.

Of the listener's collections the library learns of failures only in the two ways that it survives: a list
that is refused looks like a lost connection, and a stream that is refused, broken or in error ends with "410
Gone", after which the library lists again. It sends nothing of its own.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from typing import Any, Protocol

import aiohttp
from kubernetes.aio.client import Configuration

from diffusion_operator.kube.resources import JsonObject


class Listener(Protocol):
    """Told of collections by their URL path, such as /api/v1/namespaces/team/pods."""

    def listed(self, path: str, items: list[JsonObject], version: str) -> bool:
        """A whole list has come. False: nobody here wants it, so that the library gets its items."""
        ...

    def heard(self, path: str) -> None:
        """A stream carried bytes: an event or a bookmark."""
        ...

    def refused(self, path: str, status: int, message: str) -> bool:
        """A list or a stream was answered with an error. False: the library is to see it as it is."""
        ...


class Refused(aiohttp.ClientConnectionError):
    """A list was refused. The library waits and asks again, as after a lost connection."""


# 401 makes the library log in again, 429 makes it wait as long as the server says.
LIBRARY_S_OWN = (401, 429)
# The library opens a stream that ended anew at once; one that brought nothing must not become a busy loop.
EMPTY_STREAM_PAUSE_S = 1.0
GONE = b'{"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "list again"}}\n'


async def listening_session(configuration: Configuration, listener: Listener) -> aiohttp.ClientSession:
    """A session with the client's credentials. A token is read once; after a 401 make a new session."""
    token = await configuration.get_api_key_with_prefix("BearerToken")
    headers = {"User-Agent": "diffusion-operator"} | ({"Authorization": token} if token else {})
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=_tls(configuration)),
        headers=headers,
        response_class=_listening_response(listener),
        trust_env=False,
    )


def _tls(configuration: Configuration) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    if configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, keyfile=configuration.key_file)
    if not configuration.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _listening_response(listener: Listener) -> type[aiohttp.ClientResponse]:
    # Chunks of lists under way; a list that breaks off starts again without `continue` and replaces them.
    chunks: dict[str, list[JsonObject]] = {}

    class ListeningResponse(aiohttp.ClientResponse):
        """One answer of the API server."""

        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            await super().start(connection)
            streams = self.url.query.get("watch") == "true"
            if self.status >= 400 and self.status not in LIBRARY_S_OWN:
                message = _message(await self.read())
                if listener.refused(self.url.path, self.status, message):
                    if not streams:
                        raise Refused(f"{self.status}: {message}")
                    self.status = 200
                    self.content = _Ended(self.content)  # type: ignore[assignment]
            elif self.status == 200 and streams:
                self.content = _Heard(self.content, listener, self.url.path)  # type: ignore[assignment]
            return self

        async def json(self, **options: Any) -> Any:
            body = await super().json(**options)
            if self.status != 200 or not isinstance(body, dict) or not isinstance(body.get("items"), list):
                return body
            path, metadata = self.url.path, body.get("metadata") or {}
            earlier = chunks.pop(path, []) if "continue" in self.url.query else []
            items = earlier + body["items"]
            if metadata.get("continue"):
                chunks[path] = items
            elif not listener.listed(path, items, str(metadata.get("resourceVersion", ""))):
                return body | {"items": items}
            return body | {"items": []}

    return ListeningResponse


class _Heard:
    """The body of a stream, whole lines only; everything but the reading of chunks is the original's."""

    def __init__(self, content: aiohttp.StreamReader, listener: Listener, path: str) -> None:
        self._content = content
        self._listener = listener
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest, empty = b"", True
        async for chunk in self._content.iter_chunked(size):
            whole, line_end, rest = (rest + chunk).rpartition(b"\n")
            for line in whole.split(b"\n") if whole else ():
                if (error := _error_in(line)) is not None:
                    self._listener.refused(self._path, *error)
                    yield GONE
                    return
                self._listener.heard(self._path)
                empty = False
                yield line + line_end
        if empty:
            await asyncio.sleep(EMPTY_STREAM_PAUSE_S)
        # A line that breaks off is dropped: the library goes on after the last whole one, or lists.


class _Ended:
    """The body of a stream that was refused."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        yield GONE


def _error_in(line: bytes) -> tuple[int, str] | None:
    """Code and message of an ERROR event or of a line that is no JSON, else None."""
    if line.startswith(b'{"type":"') and line.endswith(b"}}") and not line.startswith(b'{"type":"ERROR"'):
        return None  # how an API server writes all others; most are large, and the library parses them anyway
    try:
        event = json.loads(line)
    except ValueError:
        return 0, "a line of the stream is not JSON"
    if not isinstance(event, dict) or event.get("type") == "ERROR":
        status = event.get("object") if isinstance(event, dict) else None
        status = status if isinstance(status, dict) else {}
        return int(status.get("code") or 0), str(status.get("message") or "an ERROR event")
    return None


def _message(body: bytes) -> str:
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    found = status.get("message") if isinstance(status, dict) else None
    return str(found or body[:200].decode("utf-8", "replace") or "no message")
