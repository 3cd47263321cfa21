"""An HTTP session that overhears the lists and streams which a watch library makes through it.

A watch library tells its handlers what exists, never what is gone since its last list, and not that a stream
is alive but quiet. Both stand in the bytes. Lists and events are handed to the listener; the library gets
lists without their items and a bookmark in place of each event. It needs only the resourceVersion to go on
from; what it does with an event before a handler sees it costs more than all that we do with it.

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

from diffusion_operator.kube import decoding
from diffusion_operator.kube.resources import JsonObject


class Listener(Protocol):
    """Told of collections by their URL path, such as /api/v1/namespaces/team/pods."""

    def chunk(self, path: str, items: list[JsonObject], *, first: bool) -> bool:
        """The next part of a list. False: nobody here wants it, so that the library gets its items."""
        ...

    def listed(self, path: str, version: str) -> None:
        """The list whose chunks were wanted is whole."""
        ...

    def told(self, path: str, event: JsonObject) -> bool:
        """A stream carried ADDED, MODIFIED or DELETED. False: nobody here wants it; the library gets it."""
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
        proxy=configuration.proxy,
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
            if self.status != 200:
                return await super().json(**options)
            content = await self.read()
            body = decoding.parse(content) if content.strip() else None
            if not isinstance(body, dict) or not isinstance(body.get("items"), list):
                return body
            path, metadata = self.url.path, body.get("metadata") or {}
            # A list that breaks off starts again without `continue`.
            if not listener.chunk(path, body["items"], first="continue" not in self.url.query):
                return body
            if not metadata.get("continue"):
                listener.listed(path, str(metadata.get("resourceVersion", "")))
            return body | {"items": []}

    return ListeningResponse


EVENTS = frozenset({"ADDED", "MODIFIED", "DELETED"})


class _Heard:
    """The body of a stream, line by line; everything but the reading of chunks is the original's."""

    def __init__(self, content: aiohttp.StreamReader, listener: Listener, path: str) -> None:
        self._content = content
        self._listener = listener
        self._path = path

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        rest, empty = b"", True
        async for chunk in self._content.iter_chunked(size):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if not line.strip():
                    continue
                passed = self._passed(line)
                yield passed or GONE
                if passed is None:
                    return
                empty = False
        if empty:
            await asyncio.sleep(EMPTY_STREAM_PAUSE_S)
        # A line that broke off is not passed on: the library asks again from the last version it was given.

    def _passed(self, line: bytes) -> bytes | None:
        """What the library is given for a line; None for an error, which ends the stream."""
        try:
            event = decoding.parse(line)
            kind = event["type"]
        except (ValueError, TypeError, KeyError):
            self._listener.refused(self._path, 0, "a line of the stream is no event")
            return None
        if kind == "ERROR":
            status = event.get("object") or {}
            message = str(status.get("message") or "an ERROR event")
            self._listener.refused(self._path, int(status.get("code") or 0), message)
            return None
        self._listener.heard(self._path)
        if kind not in EVENTS or not self._listener.told(self._path, event):
            return line + b"\n"
        version = event["object"]["metadata"].get("resourceVersion")
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}
        return json.dumps(bookmark).encode() + b"\n"


class _Ended:
    """The body of a stream that was refused."""

    def __init__(self, content: aiohttp.StreamReader) -> None:
        self._content = content

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, _size: int) -> AsyncIterator[bytes]:
        yield GONE


def _message(body: bytes) -> str:
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    found = status.get("message") if isinstance(status, dict) else None
    return str(found or body[:200].decode("utf-8", "replace") or "no message")
