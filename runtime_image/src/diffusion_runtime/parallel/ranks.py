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
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from diffusion_runtime.planning.documents import Layout

AXES = ("cfg", "ring", "ulysses", "tensor")


def join(rendezvous: Path, rank: int, world_size: int, device: torch.device, timeout_s: float) -> None:
    """Initialise the process group; a no-op for one rank.

    Collectives that wait longer than `timeout_s` fail.
    """
    if world_size == 1:
        return
    # "cpu:gloo", because diffusers looks for "cpu" in it before it exchanges the lengths of parts.
    backend = "nccl" if device.type == "cuda" else "cpu:gloo"
    dist.init_process_group(
        backend,
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=world_size,
        timeout=timedelta(seconds=timeout_s),
        device_id=device if device.type == "cuda" else None,
    )


def layout_mesh(layout: Layout, device: torch.device) -> DeviceMesh | None:
    """All ranks by axis, neighbouring ranks share matrices, then a sequence; None for one rank.

    Indexed by name: `mesh["cfg"]` are the ranks that share this rank's part of the sequence.
    """
    if layout.ranks == 1:
        return None
    return init_device_mesh(device.type, tuple(getattr(layout, axis) for axis in AXES), mesh_dim_names=AXES)
