"""What a rank process must find in its environment and how many threads it gets.

Torch-free: the parent decides it.
"""

from __future__ import annotations

import os
from pathlib import Path

from diffusion_runtime.planning.documents import DeviceKind

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
ALLOCATOR, OLD_ALLOCATOR = "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"
"""What torch reads; it still takes the second, older name."""


def rank_environment(threads: int, device: DeviceKind) -> dict[str, str]:
    """Sockets on loopback, nothing fetched, `threads` for arithmetic unless the user set OMP_NUM_THREADS.

    NCCL's multicast (NVLS) is off: it takes memory that the planner does not count. On CUDA segments expand
    unless the user set the allocator: pieces that fit no later request stay reserved otherwise.
    """
    expand = device == "cuda" and allocator_settings() is None
    return ({ALLOCATOR: "expandable_segments:True"} if expand else {}) | {
        "GLOO_SOCKET_IFNAME": "lo",
        "NCCL_SOCKET_IFNAME": "lo",
        "NCCL_NVLS_ENABLE": "0",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads)),
    }


def allocator_settings() -> str | None:
    """Of torch's caching allocator, as this process's environment has them; None: torch's own."""
    return os.environ.get(ALLOCATOR) or os.environ.get(OLD_ALLOCATOR) or None


def cpu_threads(ranks: int, quota: Path = CPU_QUOTA) -> int:
    """Threads per rank: the CPUs this process may use (affinity and cgroup quota) over the ranks, at least
    one.
    """
    cpus = float(len(os.sched_getaffinity(0)))
    if quota.is_file():
        limit, period = quota.read_text().split()
        if limit != "max":
            cpus = min(cpus, int(limit) / int(period))
    return max(1, int(cpus) // ranks)
