"""Free memory of the node, as its kernel estimates it. A container sees the node's own numbers here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
KIB = 1024


@dataclass(frozen=True)
class HostMemory:
    """Bytes of the node. `free_bytes` is what can be had without swapping (MemAvailable)."""

    total_bytes: int
    free_bytes: int


def read_host_memory(file: Path = MEMINFO) -> HostMemory | None:
    """None where the kernel does not tell."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
        values = {
            name: int(rest.split()[0]) * KIB for name, _, rest in (line.partition(":") for line in lines)
        }
        return HostMemory(values["MemTotal"], values["MemAvailable"])
    except (OSError, ValueError, KeyError, IndexError):
        return None
