"""A model repository on a Hugging Face hub, through huggingface_hub: redirects, retries, resuming, Xet.

What that library does not do is done around it (`fetch`): it never compares what came with the promised hash.
The token comes from HF_TOKEN only, the hub from HF_ENDPOINT.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import httpx2
from huggingface_hub import constants, hf_hub_download, hf_hub_url
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # lazily exported, and documented
    build_hf_headers,
    hf_raise_for_status,
    http_backoff,
)
from huggingface_hub.utils import tqdm as hub_tqdm  # type: ignore[attr-defined]

from diffusion_runtime.planning.errors import BadRequest

from .source import FetchFailed, OnBytes, RemoteFile, RemoteModel

TIMEOUT_S = 30.0


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
        try:
            answer = self._get(url, params={"blobs": True}).json()
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
        """The library's own download, which goes on with what an earlier process left in `folder`."""
        try:
            return Path(
                hf_hub_download(
                    self._repo,
                    file.path,
                    revision=model.commit,
                    local_dir=folder,
                    endpoint=self._endpoint,
                    token=self._token,
                    tqdm_class=_counter(on_bytes),
                )
            )
        except (httpx2.HTTPError, OSError) as error:
            self._fail(error, f"{file.path} of {self._repo}")

    def _get(self, url: str, headers: dict[str, str] | None = None, **options: Any) -> httpx2.Response:
        sent = build_hf_headers(token=self._token) | (headers or {})
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


def _counter(on_bytes: OnBytes) -> type[Any]:
    """A progress bar for the library that draws nothing and counts."""

    class Counter(hub_tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            on_bytes(int(kwargs.get("initial") or 0))
            super().__init__(*args, **(kwargs | {"disable": True}))  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            on_bytes(int(n or 0))

    return Counter
