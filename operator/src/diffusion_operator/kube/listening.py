"""An HTTP session that overhears the lists and streams which a watch library makes through it.

A watch library tells its handlers what exists, never what is gone since its last list, and not that a stream
is alive but quiet. Both stand in the bytes. Lists and events are handed to the listener; the library gets
lists without their items and a bookmark in place of each event. It needs only the resourceVersion to go on
from; what it does with an event before a handler sees it costs more than all that we do with it.
Changes nothing else and sends nothing of its own.
"""

from __future__ import annotations

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

    def told(self, path: str, event: JsonObject) -> bool:
        """A stream carried ADDED, MODIFIED or DELETED. False: nobody here wants it; the library gets it."""
        ...

    def heard(self, path: str) -> None:
        """A stream carried bytes: an event or a bookmark."""
        ...


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
            if self.status == 200 and self.url.query.get("watch") == "true":
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
        rest = b""
        async for chunk in self._content.iter_chunked(size):
            self._listener.heard(self._path)
            *lines, rest = (rest + chunk).split(b"\n")
            passed = [self._passed(line) for line in lines if line.strip()]
            if passed:
                yield b"\n".join(passed) + b"\n"
        # A line that broke off is not passed on: the library asks again from the last version it was given.

    def _passed(self, line: bytes) -> bytes:
        event = json.loads(line)
        if event["type"] not in EVENTS or not self._listener.told(self._path, event):
            return line
        version = event["object"]["metadata"].get("resourceVersion")
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}
        return json.dumps(bookmark).encode()
