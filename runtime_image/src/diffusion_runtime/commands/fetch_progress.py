"""How far a fetch is, over HTTP: `GET /v1/progress` on the port that DIFFUSION_PROGRESS_PORT names.

Bytes done and bytes in all, and nothing else: no name, no address, no way to change anything. Without the
variable nothing listens. A port that is taken is said on stderr, and the fetch goes on.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VARIABLE = "DIFFUSION_PROGRESS_PORT"
PATH = "/v1/progress"


class FetchProgress:
    """The last numbers that were reported, from any thread."""

    def __init__(self) -> None:
        self._numbers = (0, 0)

    def report(self, done: int, total: int) -> None:
        """Bytes done and bytes in all."""
        self._numbers = (done, total)  # one assignment, so that a reader never sees half of it

    def document(self) -> bytes:
        """The answer; `bytesTotal` is 0 until the source has said how much there is."""
        done, total = self._numbers
        return json.dumps({"bytesDone": done, "bytesTotal": total}).encode()


@contextmanager
def served(environment: Mapping[str, str] = os.environ, host: str = "") -> Iterator[FetchProgress]:
    """Progress that is answered for on the port of the environment, until the block ends."""
    progress, port = FetchProgress(), environment.get(VARIABLE, "")
    server = _server(host, int(port), progress) if port.isdigit() else None
    if server is None:
        yield progress
        return
    with server:
        threading.Thread(target=server.serve_forever, name="progress", daemon=True).start()
        try:
            yield progress
        finally:
            server.shutdown()


def _server(host: str, port: int, progress: FetchProgress) -> ThreadingHTTPServer | None:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            if self.path != PATH:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            body = progress.document()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """The output is for progress lines."""

    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        sys.stderr.write(f"progress is not served: port {port}: {error.strerror}\n")
        return None
