"""Joining the ranks of one pod. The rendezvous is a file in a private folder, the sockets are on loopback
only.

torch's TCP store listens on every interface without authentication, so it is not used; `environment` keeps
the sockets on loopback.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist


def join(rendezvous: Path, rank: int, world_size: int, device: torch.device, timeout_s: float) -> None:
    """Initialise the process group; a no-op for one rank.

    Collectives that wait longer than `timeout_s` fail.
    """
    if world_size == 1:
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(
        backend,
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout_s),
        device_id=device if device.type == "cuda" else None,
    )
