"""A model repository on a Hugging Face hub, through huggingface_hub's own requests: redirects, backoff that
honours Retry-After, errors that say what is missing.

Its download is not used: it starts a file again after the process has died, and never compares what came
with the promised hash (`fetch` does). The token comes from HF_TOKEN only, the hub from HF_ENDPOINT.
"""

from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn

import httpx2
from huggingface_hub import constants, hf_hub_url
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # lazily exported, and documented
    build_hf_headers,
    hf_raise_for_status,
    http_backoff,
    http_stream_backoff,
)

from diffusion_runtime.planning.errors import BadRequest

from .source import FetchFailed, OnBytes, RemoteFile, RemoteModel

TIMEOUT_S = 30.0
PAUSE_S = 1.0
TRIES_WITHOUT_PROGRESS = 5


class HubSource:
    """One repository at one revision (branch, tag or commit)."""

    kind = "huggingFace"

    def __init__(self, repo: str, revision: str | None) -> None:
        if len(repo.split("/")) > 2 or ".." in repo:
            raise BadRequest("modelPath", f"{repo!r} is no repository; write OWNER/NAME.")
        self._repo = repo
        self._revision = revision or "main"
        self._endpoint = (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
        self._token: str | bool = os.environ.get("HF_TOKEN") or False

    def look(self) -> RemoteModel:
        """Every file with size and hash, at the commit that the revision means now."""
        url = f"{self._endpoint}/api/models/{self._repo}/revision/{self._revision.replace('/', '%2F')}"
        got = self._get(url, params={"blobs": True})
        try:
            answer = got.json()
            files = [_file(sibling) for sibling in answer["siblings"]]
            return RemoteModel(self._repo, str(answer["sha"]), {file.path: file for file in files})
        except (KeyError, TypeError, ValueError) as error:
            raise FetchFailed(
                "SourceBroken", f"{url} does not answer as a model hub does ({type(error).__name__} {error})."
            ) from error

    def read(self, model: RemoteModel, file: RemoteFile, start: int, length: int) -> bytes:
        """By a range request, at the commit."""
        url = hf_hub_url(self._repo, file.path, revision=model.commit, endpoint=self._endpoint)
        end = min(start + length, file.size) - 1
        if end < start:
            return b""
        answer = self._get(url, headers={"Range": f"bytes={start}-{end}"})
        whole = answer.status_code == httpx2.codes.OK  # a hub that ignores ranges
        data: bytes = answer.content[start : end + 1] if whole else answer.content
        if len(data) != end + 1 - start:
            raise FetchFailed(
                "SourceBroken",
                f"{file.path} of {self._repo} ended after {len(data)} of {end + 1 - start} bytes.",
            )
        return data

    def download(self, model: RemoteModel, file: RemoteFile, folder: Path, on_bytes: OnBytes) -> Path:
        """Appends to what is there. Gives up after `TRIES_WITHOUT_PROGRESS` tries that brought nothing."""
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as opened:
            on_bytes(opened.tell())
            tries = 0
            while (start := opened.tell()) < file.size:
                try:
                    self._append(model, file, opened, on_bytes)
                except httpx2.TransportError as error:
                    tries = 0 if opened.tell() > start else tries + 1
                    if tries >= TRIES_WITHOUT_PROGRESS:
                        self._fail(error, f"{file.path} of {self._repo}")
                    time.sleep(PAUSE_S)
                except (httpx2.HTTPError, OSError) as error:
                    self._fail(error, f"{file.path} of {self._repo}")
        return target

    def _append(self, model: RemoteModel, file: RemoteFile, opened: BinaryIO, on_bytes: OnBytes) -> None:
        url = hf_hub_url(self._repo, file.path, revision=model.commit, endpoint=self._endpoint)
        start = opened.tell()
        headers = self._headers({"Range": f"bytes={start}-"} if start else {})
        with http_stream_backoff(
            "GET", url, headers=headers, timeout=TIMEOUT_S, retry_on_exceptions=()
        ) as answer:
            hf_raise_for_status(answer)
            if start and answer.status_code == httpx2.codes.OK:  # a hub that ignores ranges
                opened.truncate(0)
                on_bytes(-start)
            for piece in answer.iter_bytes():
                opened.write(piece)
                on_bytes(len(piece))
        if opened.tell() == start:
            raise httpx2.RemoteProtocolError("the answer is empty")

    def _headers(self, more: dict[str, str]) -> dict[str, str]:
        """Never compressed: ranges and sizes are those of the file."""
        headers: dict[str, str] = build_hf_headers(token=self._token)
        return headers | {"Accept-Encoding": "identity"} | more

    def _get(self, url: str, headers: dict[str, str] | None = None, **options: Any) -> httpx2.Response:
        sent = self._headers(headers or {})
        try:
            answer = http_backoff("GET", url, headers=sent, timeout=TIMEOUT_S, **options)
            hf_raise_for_status(answer)
        except (httpx2.HTTPError, OSError) as error:
            self._fail(error, self._repo)
        return answer

    def _fail(self, error: Exception, what: str) -> NoReturn:
        """In words, with whose fault it is."""
        if isinstance(error, GatedRepoError):
            raise BadRequest(
                "modelPath",
                f"{self._repo} is gated: accept its terms at {self._endpoint} and set HF_TOKEN to a token of "
                "the account that did.",
            ) from error
        if isinstance(error, RevisionNotFoundError):
            raise BadRequest(
                "revision", f"{self._repo} has no revision {self._revision!r}; give a branch, tag or commit."
            ) from error
        if isinstance(error, RepositoryNotFoundError):
            token = "the token in HF_TOKEN may not read it" if self._token else "it is private: set HF_TOKEN"
            raise BadRequest(
                "modelPath", f"{self._endpoint} has no model {self._repo!r}, or {token}."
            ) from error
        status = getattr(getattr(error, "response", None), "status_code", None)
        reason = "RateLimited" if status == httpx2.codes.TOO_MANY_REQUESTS else "SourceUnavailable"
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise FetchFailed(reason, f"{what} could not be read from {self._endpoint}: {words}") from error


def _file(sibling: dict[str, Any]) -> RemoteFile:
    path = str(sibling["rfilename"])
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ValueError(f"file name {path!r}")
    lfs = sibling.get("lfs")
    digest = f"sha256:{lfs['sha256']}" if lfs else f"git:{sibling['blobId']}"
    return RemoteFile(path, int(sibling["size"]), digest)
