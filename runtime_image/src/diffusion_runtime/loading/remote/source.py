"""What a place that keeps models must answer, and the errors it raises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

OnBytes = Callable[[int], None]


class FetchFailed(Exception):
    """Not the user's fault: `reason` is a CamelCase word, the text one sentence. Another try may help."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


@dataclass(frozen=True)
class RemoteFile:
    """One file. `digest` is `sha256:…`, `git:…` (sha1 of git's blob) or None where the place has none."""

    path: str
    size: int
    digest: str | None


@dataclass(frozen=True)
class RemoteModel:
    """All files of a model at one moment that never changes: `commit` names it."""

    name: str
    commit: str
    files: Mapping[str, RemoteFile]


class Source(Protocol):
    """A place that keeps one model. Raises BadRequest for the user's faults and FetchFailed for others."""

    @property
    def kind(self) -> str:
        """`huggingFace` or `s3`."""

    def look(self) -> RemoteModel:
        """List the model; whatever moves (a branch) is pinned here."""

    def read(self, model: RemoteModel, file: RemoteFile, start: int, length: int) -> bytes:
        """So many bytes of a file, fewer at its end."""

    def download(self, model: RemoteModel, file: RemoteFile, folder: Path, on_bytes: OnBytes) -> Path:
        """The whole file somewhere below `folder`, going on where an earlier try ended. Not verified."""
