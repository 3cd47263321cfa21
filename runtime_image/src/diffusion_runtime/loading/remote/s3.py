"""A model below a prefix of an S3-compatible store, through obstore: signing, retries, ranges.

Credentials, region and endpoint come from the usual environment variables (AWS_ACCESS_KEY_ID, AWS_REGION,
AWS_ENDPOINT_URL, …); without credentials requests are not signed. A store has no commits: the listing's
entity tags are hashed in place of one, and every read asks for exactly the tag that was listed. It promises
no hash that holds for every upload, so sizes and tags are what is checked.
"""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import (
    BaseError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from diffusion_runtime.planning.errors import BadRequest

from .source import FetchFailed, OnBytes, RemoteFile, RemoteModel

SCHEME = "s3://"
PIECE_BYTES = 8 * 2**20
TRIES_WITHOUT_PROGRESS = 5


class S3Source:
    """`s3://BUCKET/PREFIX`."""

    kind = "s3"

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        if not parts.netloc or not parts.path.strip("/"):
            raise BadRequest("modelPath", f"{address!r} names no model; write s3://BUCKET/PREFIX.")
        self._address = f"{SCHEME}{parts.netloc}/{parts.path.strip('/')}"
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        config: dict[str, Any] = {"skip_signature": "AWS_ACCESS_KEY_ID" not in os.environ}
        if endpoint:
            config["endpoint"] = endpoint
        self._store = S3Store(
            parts.netloc,
            prefix=parts.path.strip("/"),
            config=cast(Any, config),
            client_options={"allow_http": bool(endpoint and endpoint.startswith("http://"))},
            retry_config={"max_retries": 6, "retry_timeout": timedelta(minutes=3)},
        )
        self._tags: dict[str, str | None] = {}

    def look(self) -> RemoteModel:
        """Every object below the prefix."""
        try:
            objects = [meta for page in obstore.list(self._store) for meta in page]
        except (BaseError, OSError) as error:
            self._fail(error, self._address)
        if not objects:
            raise BadRequest("modelPath", f"{self._address} holds no objects.")
        self._tags = {meta["path"]: meta["e_tag"] for meta in objects}
        files = {meta["path"]: RemoteFile(meta["path"], meta["size"], None) for meta in objects}
        digest = hashlib.sha256()
        for path in sorted(files):
            digest.update(f"{path}\0{files[path].size}\0{self._tags[path]}\n".encode())
        return RemoteModel(self._address, digest.hexdigest()[:40], files)

    def read(self, model: RemoteModel, file: RemoteFile, start: int, length: int) -> bytes:
        """By a range request for the object that was listed."""
        end = min(start + length, file.size)
        if end <= start:
            return b""
        try:
            return bytes(obstore.get(self._store, file.path, options=self._options(file, start, end)).bytes())
        except (BaseError, OSError) as error:
            self._fail(error, f"{file.path} of {model.name}")

    def download(self, model: RemoteModel, file: RemoteFile, folder: Path, on_bytes: OnBytes) -> Path:
        """Appends to what is there. Gives up after `TRIES_WITHOUT_PROGRESS` tries that brought nothing."""
        target = folder / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as opened:
            on_bytes(opened.tell())
            tries = 0
            while (start := opened.tell()) < file.size:
                try:
                    self._append(file, start, opened, on_bytes)
                except (BaseError, OSError) as error:
                    tries = 0 if opened.tell() > start else tries + 1
                    if tries >= TRIES_WITHOUT_PROGRESS or isinstance(error, PreconditionError):
                        self._fail(error, f"{file.path} of {model.name}")
        return target

    def _append(self, file: RemoteFile, start: int, opened: Any, on_bytes: OnBytes) -> None:
        answer = obstore.get(self._store, file.path, options=self._options(file, start, file.size))
        for piece in answer.stream(min_chunk_size=PIECE_BYTES):
            opened.write(piece)
            on_bytes(len(piece))

    def _options(self, file: RemoteFile, start: int, end: int) -> Any:
        options: dict[str, Any] = {"range": (start, end)}
        if self._tags.get(file.path):
            options["if_match"] = self._tags[file.path]
        return options

    def _fail(self, error: Exception, what: str) -> NoReturn:
        words = " ".join(str(error).split())[:300]
        if isinstance(error, PermissionDeniedError | UnauthenticatedError):
            raise BadRequest(
                "modelPath", f"{what} may not be read with the credentials in AWS_ACCESS_KEY_ID: {words}"
            ) from error
        if isinstance(error, NotFoundError):
            raise BadRequest("modelPath", f"{what} does not exist: {words}") from error
        if isinstance(error, PreconditionError):
            raise FetchFailed(
                "SourceChanged", f"{what} was replaced while it was read; fetch again."
            ) from error
        raise FetchFailed("SourceUnavailable", f"{what} could not be read: {words}") from error
