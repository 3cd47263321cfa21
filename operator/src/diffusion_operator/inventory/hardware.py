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
    driver: tuple[int, ...] | None = None
    """Version of the NVIDIA driver, None when no label tells it."""


def gpu_labels(node: Node, resource_name: str) -> GpuLabels:
    """Read the labels of one resource; unreadable numbers count as absent, since hardware then is unknown."""
    memory = _number(node, f"{resource_name}.memory")
    replicas = _number(node, f"{resource_name}.replicas") or 1
    return GpuLabels(
        product=node.labels.get(f"{resource_name}.product") or None,
        memory_bytes=memory * MIB if memory else None,
        shared=replicas > 1,
        driver=driver_version(node),
    )


def driver_version(node: Node) -> tuple[int, ...] | None:
    """Driver of the node as GPU feature discovery labels it: (580, 65, 6), fewer parts where fewer are known.

    The labels are `nvidia.com/cuda.driver-version.{major,minor,revision}`, and on older releases
    `nvidia.com/cuda.driver.{major,minor,rev}`.
    """
    for prefix, last in (("driver-version", "revision"), ("driver", "rev")):
        parts = [_number(node, f"nvidia.com/cuda.{prefix}.{name}") for name in ("major", "minor", last)]
        if parts[0] is not None:
            known = parts[: parts.index(None)] if None in parts else parts
            return tuple(part for part in known if part is not None)
    return None


def too_old(driver: tuple[int, ...] | None, least: tuple[int, ...]) -> bool:
    """Whether a known driver is older than `least`. Parts that no label tells are not held against it."""
    return driver is not None and driver < least[: len(driver)]


def parse_driver(text: str) -> tuple[int, ...]:
    """(580, 65) of "580.65". Raises ValueError for anything but numbers and dots."""
    parts = text.split(".")
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"{text!r} is no driver version; write for example 580 or 580.65")
    return tuple(map(int, parts))


def _number(node: Node, label: str) -> int | None:
    text = node.labels.get(label, "")
    return int(text) if text.isascii() and text.isdigit() else None
