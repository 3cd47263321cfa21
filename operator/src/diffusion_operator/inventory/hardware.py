"""What the labels of GPU feature discovery say about the GPUs of a node.

The labels are `<resource>.product`, `.memory` (MiB of one GPU) and `.replicas` (more than 1: each GPU is
handed out several times). With MIG in the mixed strategy the resource is `nvidia.com/mig-…` and has the
same label suffixes.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_operator.inventory.objects import Node

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GpuLabels:
    """Product is None when the node has no product label; memory is bytes of one GPU."""

    product: str | None
    memory_bytes: int | None
    shared: bool


def gpu_labels(node: Node, resource_name: str) -> GpuLabels:
    """Read the labels of one resource; unreadable numbers count as absent, since hardware then is unknown."""
    memory = _number(node, f"{resource_name}.memory")
    replicas = _number(node, f"{resource_name}.replicas") or 1
    return GpuLabels(
        product=node.labels.get(f"{resource_name}.product") or None,
        memory_bytes=memory * MIB if memory else None,
        shared=replicas > 1,
    )


def _number(node: Node, label: str) -> int | None:
    text = node.labels.get(label, "")
    return int(text) if text.isascii() and text.isdigit() else None
