"""Where one component's weights live, and how they get onto the device for use.

`resident`: there for good. `component`: the host keeps the weights; they are copied whole to the device for
one phase and the copy is dropped afterwards, with no copy back (weights do not change). On a CPU that is a
real copy too.
Layerwise streaming is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from diffusion_runtime.planning.documents import Residency

InUse = Callable[[], AbstractContextManager[None]]


def place(module: torch.nn.Module, residency: Residency, device: torch.device) -> InUse:
    """Put a component (loaded on the CPU) where its residency says; returns what to enter for its use."""
    if residency.mode == "resident":
        module.to(device)
        return nullcontext
    if residency.mode == "component":
        return lambda: _on_device(module, device)
    raise ValueError(f"residency {residency.mode} is not executed here")


@contextmanager
def _on_device(module: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """Weights and buffers on `device` inside the block; afterwards the host's tensors are back and the copy
    is free.
    """
    tensors = [*module.parameters(), *module.buffers()]
    host = [tensor.data for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(device, copy=True)
        yield
    finally:
        for tensor, kept in zip(tensors, host, strict=True):
            tensor.data = kept
        if device.type == "cuda":
            torch.cuda.empty_cache()  # the next phase plans with these bytes
