"""Keeps results in the cache folder by the hash of what they were made from.

A result appears under its name only when it is whole (built aside, then renamed), two runs never build the
same thing at once (file lock), and disk space is asked for before, not after. It knows nothing of what it
keeps.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from localcluster.progress import say
from localcluster.settings import GIB, cache_folder
from localcluster.shell import LocalClusterError


def digest(parts: Iterable[str | Path]) -> str:
    """12 hex digits over strings and the contents of files; a folder counts with all its files and their
    names.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(f"text {part}\0".encode())
            continue
        for file in _files(part):
            total.update(f"file {file.relative_to(part.parent)}\0".encode())
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()[:12]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise LocalClusterError(f"{path} does not exist, but an image is made from it")
    skipped = {"__pycache__", ".venv", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
    found = (file for file in path.rglob("*") if file.is_file() and not skipped & set(file.parts))
    return sorted(file for file in found if file.suffix != ".pyc")


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock across processes; says so when somebody else has it."""
    folder = cache_folder() / "locks"
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run works on “{name}”; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def require_disk(needed_gib: float, purpose: str, folder: Path | None = None) -> None:
    """Raise a sentence with both numbers unless so much space is free."""
    place = folder or cache_folder()
    free_gib = shutil.disk_usage(place).free / GIB
    if free_gib < needed_gib:
        raise LocalClusterError(
            f"{purpose} needs about {needed_gib:.0f} GiB of free disk at {place}, "
            f"but only {free_gib:.1f} GiB are free; free some space, set DIFFUSION_CACHE to a larger disk, "
            "or run `make clean`"
        )


def kept_folder(kind: str, key: str, build: Callable[[Path], None], keep: int = 2) -> Path:
    """The folder ``<kind>/<key>``; made by ``build(folder)`` when it is missing. Of each kind the ``keep``
    newest stay.
    """
    target = cache_folder() / kind / key
    if not target.exists():
        with locked(f"{kind}-{key}".replace("/", "-")):
            if not target.exists():
                _build_aside(target, build)
    os.utime(target)
    remove_older(target.parent, keep)
    return target


def _build_aside(target: Path, build: Callable[[Path], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        build(aside)
        aside.chmod(0o755)
        aside.rename(target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def remove_older(folder: Path, keep: int) -> None:
    """Remove all but the most recently used results of one kind; what is being built (a leading dot) is
    left alone.
    """
    kept = sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith(".")),
        key=lambda entry: -entry.stat().st_mtime,
    )
    for old in kept[keep:]:
        shutil.rmtree(old, ignore_errors=True)
