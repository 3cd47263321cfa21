"""What a container may still take of the host's memory, from control groups of both versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffusion_runtime.loading.host_memory import available_bytes, oom_kills

GIB = 2**30
MEMINFO = "MemTotal:       99999999 kB\nMemAvailable:   67108864 kB\n"  # 64 GiB


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def version_2(folder: str, limit: str, used: int, cached: int) -> dict[str, str]:
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{used}\n",
        f"{folder}/memory.stat": f"anon 5\nfile {cached}\ninactive_file {cached}\nactive_file 0\n",
    }


def test_a_node_without_limits_has_what_is_available(tmp_path: Path) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n"}
    files |= version_2("sys/fs/cgroup", "max", 7 * GIB, 0)
    assert available_bytes(tree(tmp_path, files)) == 64 * GIB


def test_the_containers_limit_counts_and_the_page_cache_is_free(tmp_path: Path) -> None:
    """As a pod sees it: its own group is the top of the mount. 32 GiB, 20 used, 15 of these cached."""
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/\n"}
    files |= version_2("sys/fs/cgroup", str(32 * GIB), 20 * GIB, 15 * GIB)
    assert available_bytes(tree(tmp_path, files)) == 27 * GIB


def test_the_tightest_of_all_groups_above_us_counts(tmp_path: Path) -> None:
    files = {"proc/meminfo": MEMINFO, "proc/self/cgroup": "0::/pod/engine\n"}
    files |= version_2("sys/fs/cgroup/pod/engine", str(32 * GIB), 2 * GIB, 0)
    files |= version_2("sys/fs/cgroup/pod", str(16 * GIB), 6 * GIB, 0)
    assert available_bytes(tree(tmp_path, files)) == 10 * GIB


@pytest.mark.parametrize(("limit", "room"), [(24 * GIB, 17 * GIB), (2**63 - 4096, 64 * GIB)])
def test_version_1(tmp_path: Path, limit: int, room: int) -> None:
    """The path is the node's; inside the container the mount shows our group as the top."""
    folder = "sys/fs/cgroup/memory"
    files = {
        "proc/meminfo": MEMINFO,
        "proc/self/cgroup": "9:cpu,cpuacct:/kubepods/x\n5:memory:/kubepods/x\n",
        f"{folder}/memory.limit_in_bytes": f"{limit}\n",
        f"{folder}/memory.usage_in_bytes": f"{10 * GIB}\n",
        f"{folder}/memory.stat": f"cache 1\ntotal_inactive_file {2 * GIB}\ntotal_active_file {GIB}\n",
        f"{folder}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n",
    }
    root = tree(tmp_path, files)
    assert available_bytes(root) == room
    assert oom_kills(root) == 4


def test_kills_are_counted_in_our_own_group(tmp_path: Path) -> None:
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.events": "oom 3\noom_kill 2\n"}
    assert oom_kills(tree(tmp_path, files)) == 2


def test_nothing_is_known_where_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None
    assert oom_kills(tmp_path) == 0


def test_this_machine_can_be_read() -> None:
    room = available_bytes()
    assert room is not None
    assert 0 < room < 2**50
