"""Where one component's weights live, and how they get onto the device for use.

`resident`: there for good. `component`: the host keeps the weights; they are copied whole to the device for
one phase and the copy is dropped afterwards, with no copy back (weights do not change). On a CPU that is a
real copy too.
`layerwise`: blocks streamed through the device, see `layerwise`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from diffusion_runtime.planning.documents import Residency

from .layerwise import stream_blocks

InUse = Callable[[], AbstractContextManager[None]]


def place(
    module: torch.nn.Module,
    residency: Residency,
    device: torch.device,
    blocks: Sequence[torch.nn.Module] = (),
) -> InUse:
    """Put a component (loaded on the CPU) where its residency says; returns what to enter for its use.

    `blocks` are its repeated blocks in order of use, needed by `layerwise`.
    """
    if residency.mode == "resident":
        module.to(device)
        return nullcontext
    if residency.mode == "component":
        return lambda: _on_device(module, device)
    if not blocks:
        raise ValueError("layerwise residency needs repeated blocks, this component has none")
    streamed = stream_blocks(module, blocks, residency.prefetch_blocks, residency.resident_blocks, device)
    return streamed.in_use


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
