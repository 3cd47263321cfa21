"""A model from elsewhere into a folder: whole, verified, and marked when it is finished.

One writer per folder. A file is downloaded below `.fetching`, compared with its hash and only then moved to
its name, so whatever has its name is good and an interrupted fetch goes on. Readers wait for the marker.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_runtime.planning.errors import BadRequest

from .choice import choose
from .source import FetchFailed, OnBytes, RemoteFile, RemoteModel, Source

MARKER = ".diffusion-model.json"
MARKER_SCHEMA = "diffusion-operator.io/fetched-model/v1"
LOCK = ".fetch-lock"
STAGING = ".fetching"
FILES_AT_ONCE = 4
_PIECE = 8 * 2**20
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Fetched:
    """A finished folder."""

    folder: Path
    source: str
    name: str
    revision: str
    commit: str
    variant: str | None
    bytes: int


def fetched(folder: Path) -> Fetched | None:
    """What a folder holds by its marker, when every file is there in its size; None when it is unfinished."""
    try:
        document = json.loads((folder / MARKER).read_bytes())
        if document["schema"] != MARKER_SCHEMA:
            return None
        sizes = {str(file["path"]): int(file["bytes"]) for file in document["files"]}
        if any((folder / path).stat().st_size != size for path, size in sizes.items()):
            return None
        words = (document["source"], document["name"], document["revision"], document["commit"])
        return Fetched(folder, *words, document["variant"], sum(sizes.values()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def fetch(
    source: Source, revision: str, folder: Path, variant: str | None, report: Report = lambda *_: None
) -> Fetched:
    """Bring the model into `folder`. `report(bytes done, bytes in all)` is called often, from any thread.

    Raises BadRequest (the model, the folder), FetchFailed (network, hash, another writer).
    """
    with _only_writer(folder):
        model = source.look()
        have = fetched(folder)
        if have and (have.source, have.name, have.commit, have.variant) == (
            source.kind, model.name, model.commit, variant,
        ):  # fmt: skip
            return have
        _check_free_for(model, folder)
        (folder / MARKER).unlink(missing_ok=True)
        chosen = choose(model, lambda file: source.read(model, file, 0, file.size), variant)
        _download(source, model, chosen, folder, report)
        _write_marker(source, model, revision, variant, chosen, folder)
        shutil.rmtree(folder / STAGING, ignore_errors=True)
    done = fetched(folder)
    if done is None:
        raise FetchFailed("FolderChanged", f"{folder} was changed by somebody else while it was written.")
    return done


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """The kernel gives the lock back when its holder dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("wb")
    except OSError as error:
        raise BadRequest("to", f"{folder} cannot be written: {error.strerror}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise FetchFailed(
                "FolderBusy", f"Another fetch is writing {folder}; wait until it ends."
            ) from error
        yield


def _check_free_for(model: RemoteModel, folder: Path) -> None:
    """A started fetch goes on; a folder of another model, or of another commit, is never mixed with this."""
    started = folder / STAGING / "commit"
    mark = f"{model.name}@{model.commit}"
    if started.is_file():
        if started.read_text() == mark:
            return
        raise BadRequest(
            "to",
            f"{folder} holds an unfinished fetch of {started.read_text()}, not of {mark}; empty it first.",
        )
    ours = {LOCK, STAGING, MARKER, "lost+found"}
    others = sorted(path.name for path in folder.iterdir() if path.name not in ours)
    if others:
        raise BadRequest(
            "to", f"{folder} is not empty (it holds {others[0]}); give a folder for {mark} alone."
        )
    started.parent.mkdir(exist_ok=True)
    started.write_text(mark)


def _download(
    source: Source, model: RemoteModel, chosen: dict[str, RemoteFile], folder: Path, report: Report
) -> None:
    total = sum(file.size for file in chosen.values())
    _check_room(chosen, folder)
    counted: dict[str, int] = {}

    def counter(target: str, file: RemoteFile) -> OnBytes:
        def count(size: int) -> None:
            counted[target] = min(file.size, counted.get(target, 0) + size)
            report(sum(list(counted.values())), total)

        return count

    def bring(item: tuple[str, RemoteFile]) -> None:
        target, file = item
        final = folder / target
        if final.is_file() and final.stat().st_size == file.size:
            counter(target, file)(file.size)
            return
        got = source.download(model, file, folder / STAGING, counter(target, file))
        _verify(got, file, model)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.replace(got, final)

    pool = ThreadPoolExecutor(FILES_AT_ONCE)
    try:
        # The largest first: what is left at the end is small.
        for _ in pool.map(bring, sorted(chosen.items(), key=lambda item: -item[1].size)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    report(total, total)


def _check_room(chosen: dict[str, RemoteFile], folder: Path) -> None:
    missing = sum(file.size for target, file in chosen.items() if not (folder / target).is_file())
    staged = sum(path.stat().st_size for path in (folder / STAGING).rglob("*") if path.is_file())
    free = shutil.disk_usage(folder).free
    if missing - staged > free:
        raise FetchFailed(
            "InsufficientStorage",
            f"{folder} has {free} bytes free and the model needs {missing - staged} more.",
        )


def _verify(path: Path, file: RemoteFile, model: RemoteModel) -> None:
    """Delete it when it is not what was promised."""
    size = path.stat().st_size
    where = f"{file.path} of {model.name} at {model.commit}"
    if size != file.size:
        path.unlink()
        raise FetchFailed(
            "WrongSize", f"{where} came with {size} bytes instead of {file.size}; it was deleted."
        )
    if file.digest is None:
        return
    kind, _, promised = file.digest.partition(":")
    digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(usedforsecurity=False)
    if kind == "git":
        digest.update(f"blob {size}\0".encode())
    with path.open("rb") as opened:
        while piece := opened.read(_PIECE):
            digest.update(piece)
    if digest.hexdigest() != promised:
        path.unlink()
        raise FetchFailed(
            "WrongHash",
            f"{where} has {kind} {digest.hexdigest()}, not the promised {promised}; it was deleted. If "
            "another try ends so too, the file at the source or a proxy before it is damaged.",
        )


def _write_marker(
    source: Source,
    model: RemoteModel,
    revision: str,
    variant: str | None,
    chosen: dict[str, RemoteFile],
    folder: Path,
) -> None:
    document: dict[str, Any] = {
        "schema": MARKER_SCHEMA,
        "source": source.kind,
        "name": model.name,
        "revision": revision,
        "commit": model.commit,
        "variant": variant,
        "files": [
            {"path": target, "bytes": file.size, "digest": file.digest}
            for target, file in sorted(chosen.items())
        ],
    }
    new = folder / STAGING / "marker"
    with new.open("w") as opened:
        json.dump(document, opened, indent=1)
        opened.flush()
        os.fsync(opened.fileno())
    os.replace(new, folder / MARKER)
