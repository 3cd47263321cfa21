"""Where one component's weights live, and how they get onto the device for use.

`resident`: there for good. `component`: the host keeps the weights, page-locked; they are copied whole to the
device for one phase and the copy is dropped afterwards, with no copy back (weights do not change). On a CPU
that is a real copy too. `layerwise`: blocks streamed through the device, see `layerwise`.
Each is filled straight from the files, once, where it will stay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from diffusion_runtime.planning.documents import Residency
from diffusion_runtime.storage import Fill, empty_like_on, host_bytes, lock, put

from .arena import PackedTensor, pack
from .layerwise import stream_blocks

InUse = Callable[[], AbstractContextManager[None]]


def place(
    module: torch.nn.Module,
    residency: Residency,
    device: torch.device,
    fill: Fill,
    blocks: Sequence[torch.nn.Module] = (),
) -> InUse:
    """Give a component storage where its residency says and fill it; returns what to enter for its use.

    `module` has parameters on the meta device. `blocks` are its repeated blocks in order of use, needed by
    `layerwise`.
    """
    if residency.mode == "resident":
        _stay(module, device, fill)
        return nullcontext
    if residency.mode == "component":
        host = _HostCopy(module, device, fill)
        return host.on_device
    if not blocks:
        raise ValueError("layerwise residency needs repeated blocks, this component has none")
    streamed = stream_blocks(
        module, blocks, residency.prefetch_blocks, residency.resident_blocks, device, fill
    )
    return streamed.in_use


def _stay(module: torch.nn.Module, device: torch.device, fill: Fill) -> None:
    tensors = {name: empty_like_on(p, device) for name, p in module.named_parameters()}
    fill([(name, tensor, 0) for name, tensor in tensors.items()])
    put(module, tensors)
    for buffer in module.buffers():
        buffer.data = buffer.data.to(device)


class _HostCopy:
    """All weights of one component in one page-locked piece of host memory."""

    def __init__(self, module: torch.nn.Module, device: torch.device, fill: Fill) -> None:
        names, parameters = zip(*module.named_parameters(), strict=True)
        self._places: tuple[PackedTensor, ...]
        self._places, size = pack(parameters)
        self._device = device
        self._memory = host_bytes(size)
        self._host = [place.view(self._memory) for place in self._places]
        fill([(name, tensor, 0) for name, tensor in zip(names, self._host, strict=True)])
        put(module, dict(zip(names, self._host, strict=True)))
        lock(self._memory, device)
        self._parameters = list(module.parameters())
        self._buffers = list(module.buffers())

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Weights and buffers on the device inside; afterwards the host's are back and the copy is free."""
        kept = [buffer.data for buffer in self._buffers]
        try:
            copy = torch.empty(self._memory.nbytes, dtype=torch.uint8, device=self._device)
            copy.copy_(self._memory, non_blocking=True)  # one transfer; kernels queued later wait for it
            for parameter, place in zip(self._parameters, self._places, strict=True):
                parameter.data = place.view(copy)
            del copy
            for buffer in self._buffers:
                buffer.data = buffer.data.to(self._device, copy=True)
            yield
        finally:
            for parameter, host in zip(self._parameters, self._host, strict=True):
                parameter.data = host
            for buffer, host in zip(self._buffers, kept, strict=True):
                buffer.data = host
            if self._device.type == "cuda":
                torch.cuda.empty_cache()  # the next phase plans with these bytes
