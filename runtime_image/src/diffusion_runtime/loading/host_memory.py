"""How much host memory this container may still take, and whether the kernel has killed one of its processes.

Reads the control groups of both versions: /proc/meminfo tells what the node has, which a container never
gets. Torch-free, so that the parent process can refuse before a rank starts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")
_UNLIMITED_BYTES = 2**60
"""Version 1 writes a number near 2**63 where there is no limit, version 2 writes `max`."""


def available_bytes(root: Path = ROOT) -> int | None:
    """Least of what the node has free and what each control group above us still allows; None where unknown.

    The page cache counts as free: the kernel drops it before it kills.
    """
    rooms = [_meminfo(root), *map(_room_v2, _groups_v2(root)), *map(_room_v1, _groups_v1(root))]
    return min((room for room in rooms if room is not None), default=None)


def oom_kills(root: Path = ROOT) -> int:
    """Processes of this container that the kernel has killed for memory so far; 0 where it does not count."""
    counts = [_counter(folder / "memory.events", "oom_kill") for folder in _groups_v2(root)[:1]]
    counts += [_counter(folder / "memory.oom_control", "oom_kill") for folder in _groups_v1(root)[:1]]
    return max((count for count in counts if count is not None), default=0)


def _meminfo(root: Path) -> int | None:
    kib = _counter(root / "proc/meminfo", "MemAvailable:")
    return None if kib is None else kib * 1024


def _room_v2(folder: Path) -> int | None:
    limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
    return _room(limit, used, folder / "memory.stat", ("inactive_file", "active_file"))


def _room_v1(folder: Path) -> int | None:
    limit, used = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.usage_in_bytes")
    return _room(limit, used, folder / "memory.stat", ("total_inactive_file", "total_active_file"))


def _room(limit: int | None, used: int | None, stat: Path, cached: tuple[str, ...]) -> int | None:
    if limit is None or used is None or limit >= _UNLIMITED_BYTES:
        return None
    return max(0, limit - used + sum(_counter(stat, name) or 0 for name in cached))


def _groups_v2(root: Path) -> list[Path]:
    """Our own control group first, then those above it. A container usually sees its own as the top one."""
    return list(_upwards(root / "sys/fs/cgroup", _own_path(root, "")))


def _groups_v1(root: Path) -> list[Path]:
    return list(_upwards(root / "sys/fs/cgroup/memory", _own_path(root, "memory")))


def _upwards(top: Path, path: str) -> Iterator[Path]:
    folder = top / path.lstrip("/")
    if not folder.is_dir():  # the path is the node's, the mount shows our own group as the top
        folder = top
    while folder != top:
        yield folder
        folder = folder.parent
    yield top


def _own_path(root: Path, controller: str) -> str:
    """`/` unless /proc/self/cgroup knows better; lines are `number:controllers:path`."""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path if ".." not in path else "/"
    return "/"


def _number(file: Path) -> int | None:
    text = "".join(_lines(file)).strip()
    return int(text) if text.isdigit() else None


def _counter(file: Path, name: str) -> int | None:
    """The number behind `name` in a file of `name number` lines."""
    for line in _lines(file):
        words = line.split()
        if len(words) >= 2 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return None


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
