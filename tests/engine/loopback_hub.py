"""A model hub and an S3-compatible store for one folder of files, with faults on demand.

Tests serve on loopback; `python loopback_hub.py FOLDER PORT` serves a folder from a pod, with Python alone.

The hub speaks what huggingface_hub asks: the model API with file metadata, HEAD and GET of /resolve/ with LFS
headers and ranges. The store speaks ListObjectsV2 and GET with ranges and If-Match.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
BUCKET = "weights"
PREFIX = "tiny/qwen"
LFS_SUFFIX = ".safetensors"


@dataclass
class Fault:
    """What one answer to a GET of a file does instead: a status, or the body cut after `cut` bytes."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass
class Loopback:
    """`files` by path. `faults` by path, used up one per GET. `tampered`: other bytes than promised."""

    files: dict[str, bytes]
    repo: str = "tiny/qwen"
    branches: dict[str, str] = field(default_factory=lambda: {"main": COMMIT})
    token: str | None = None
    gated: bool = False
    faults: dict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    tampered: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    sent_bytes: int = 0
    url: str = ""

    def gets(self, ending: str) -> list[str | None]:
        """Range headers of the GETs of paths that end so."""
        return [span for method, path, span in self.asked if method == "GET" and path.endswith(ending)]


@contextmanager
def serving(loopback: Loopback) -> Iterator[Loopback]:
    """It answers inside."""
    server = _server(loopback, ("127.0.0.1", 0))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    loopback.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield loopback
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _server(loopback: Loopback, address: tuple[str, int]) -> ThreadingHTTPServer:
    return ThreadingHTTPServer(address, type("Handler", (_Handler,), {"loopback": loopback}))


def main(folder: str, port: str) -> None:
    """Until it is killed."""
    root = Path(folder)
    files = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    _server(Loopback(files), ("", int(port))).serve_forever()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    loopback: Loopback
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.loopback.asked.append((self.command, path, self.headers.get("Range")))
        hub = self.loopback
        if path.startswith(f"/{BUCKET}"):
            self._store(path)
        elif hub.token is not None and self.headers.get("Authorization") != f"Bearer {hub.token}":
            code = "GatedRepo" if hub.gated else "RepoNotFound"
            self._send(403 if hub.gated else 401, b"{}", {"X-Error-Code": code})
        elif path.startswith("/api/models/"):
            self._model(path)
        elif path.startswith(f"/{hub.repo}/resolve/"):
            self._file(path)
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _model(self, path: str) -> None:
        repo, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        fault = self._fault("api")
        if fault.status != 200:
            return self._send(fault.status, b"{}", fault.headers)
        if repo != self.loopback.repo:
            return self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        commit = self._commit(revision)
        if commit is None:
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for name, data in self.loopback.files.items():
            entry: dict[str, Any] = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
            if name.endswith(LFS_SUFFIX):
                sha = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"sha256": sha, "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        body = {"id": repo, "sha": commit, "siblings": siblings}
        return self._send(200, json.dumps(body).encode(), {"Content-Type": "application/json"})

    def _file(self, path: str) -> None:
        revision, _, name = path.removeprefix(f"/{self.loopback.repo}/resolve/").partition("/")
        commit = self._commit(revision)
        if commit is None:
            return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if name not in self.loopback.files:
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        promised = self.loopback.files[name]
        data = self.loopback.tampered.get(name, promised)
        etag = git_sha1(promised)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"'}
        if name.endswith(LFS_SUFFIX):
            headers["X-Linked-Etag"] = f'"{hashlib.sha256(promised).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(promised))
        return self._data(name, data, headers)

    def _store(self, path: str) -> None:
        query = parse_qs(urlsplit(self.path).query)
        tags = {name: hashlib.md5(data).hexdigest() for name, data in self.loopback.files.items()}
        if "list-type" in query:
            contents = "".join(
                f"<Contents><Key>{PREFIX}/{name}</Key><Size>{len(data)}</Size><ETag>&quot;{tags[name]}&quot;"
                "</ETag><LastModified>2026-11-25T00:00:00.000Z</LastModified></Contents>"
                for name, data in self.loopback.files.items()
                if f"{PREFIX}/{name}".startswith(query.get("prefix", [""])[0])
            )
            body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}</ListBucketResult>"
            return self._send(200, body.encode(), {"Content-Type": "application/xml"})
        name = path.removeprefix(f"/{BUCKET}/{PREFIX}/")
        if name not in self.loopback.files:
            return self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", {})
        if self.headers.get("If-Match", f'"{tags[name]}"').strip('"') != tags[name]:
            return self._send(412, b"<Error><Code>PreconditionFailed</Code></Error>", {})
        headers = {"ETag": f'"{tags[name]}"', "Last-Modified": "Wed, 25 Nov 2026 00:00:00 GMT"}
        return self._data(name, self.loopback.files[name], headers)

    def _data(self, name: str, data: bytes, headers: dict[str, str]) -> None:
        fault = self._fault(name)
        if fault.status != 200:
            return self._send(fault.status, b"", fault.headers)
        status, start, end = 200, 0, len(data)
        if span := self.headers.get("Range"):
            first, _, last = span.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last) + 1 if last else len(data), len(data))
            status = 206
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(data)}"
        return self._send(status, data[start:end], headers, fault.cut)

    def _fault(self, name: str) -> Fault:
        waiting = self.loopback.faults[name]
        return waiting.popleft() if waiting and self.command == "GET" else Fault()

    def _commit(self, revision: str) -> str | None:
        known = self.loopback.branches
        return known.get(revision, revision if revision in known.values() else None)

    def _send(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body if cut is None else body[:cut])
            self.loopback.sent_bytes += len(body)
        if cut is not None:
            self.close_connection = True


if __name__ == "__main__":
    main(*sys.argv[1:])
