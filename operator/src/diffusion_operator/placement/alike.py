"""One object for all GPUs and nodes that look alike to the planner, which counts equal objects together.

A cluster has thousands of nodes of a few kinds: comparing and hashing them must cost next to nothing. Pure.
"""

from __future__ import annotations

from functools import lru_cache

from diffusion_runtime.planning.devices import Device, GpuNode, device_from_product
from diffusion_runtime.planning.errors import UnknownHardware


@lru_cache(maxsize=1024)
def labelled_device(product: str, memory_bytes: int | None, shared: bool) -> Device | None:
    """The device of these labels, one object for all nodes that have them."""
    try:
        device = device_from_product(product, memory_bytes=memory_bytes)
    except UnknownHardware:
        return None
    return device.model_copy(update={"shared": True}) if shared and not device.shared else device


@lru_cache(maxsize=1024)
def with_free(device: Device, free_bytes: int) -> Device:
    """The device with so much free, one object for all GPUs that are alike."""
    return device if free_bytes == device.free_bytes else device.model_copy(update={"free_bytes": free_bytes})


@lru_cache(maxsize=4096)
def alike_node(device: Device, gpus: int, host_free_bytes: int | None) -> GpuNode:
    """The node with so many of this device."""
    return GpuNode(name=device.product, gpus=(device,) * gpus, host_free_bytes=host_free_bytes)
