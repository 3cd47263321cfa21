"""Free memory of the node from /proc/meminfo."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffusion_operator.node_agent.host_memory import HostMemory, read_host_memory


def test_this_machine_tells_its_memory() -> None:
    found = read_host_memory()
    assert found is not None
    assert 0 < found.free_bytes <= found.total_bytes


def test_available_counts_and_not_merely_free(tmp_path: Path) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal:  1000 kB\nMemFree:  10 kB\nMemAvailable:  400 kB\nHugePages_Total:  0\n")
    assert read_host_memory(file) == HostMemory(1000 * 1024, 400 * 1024)


@pytest.mark.parametrize(
    "text", ["", "MemTotal: 1 kB\n", "MemTotal: x kB\nMemAvailable: 1 kB\n", "Broken:\n"]
)
def test_what_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "meminfo").write_text(text)
    assert read_host_memory(tmp_path / "meminfo") is None
    assert read_host_memory(tmp_path / "absent") is None
