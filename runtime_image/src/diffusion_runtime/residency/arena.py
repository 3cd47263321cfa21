"""One piece of host memory of exact size for all streamed blocks, page-locked where a GPU reads it.

torch's own pinned allocator rounds up to powers of two (6 GiB asked, 10 GiB locked), so plain memory is
registered with CUDA instead, which is also faster. Nothing here knows when a block is needed.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterable
from dataclasses import dataclass

import torch

ALIGNMENT_BYTES = 64
"""Of each tensor: compiled kernels copy inputs that are less aligned than the one they were compiled with."""


@dataclass(frozen=True)
class PackedTensor:
    """Where one parameter lies in its block's bytes."""

    offset: int
    shape: torch.Size
    dtype: torch.dtype

    def view(self, block: torch.Tensor) -> torch.Tensor:
        """The parameter inside `block` (uint8, one block's bytes on any device); shares its storage."""
        size = math.prod(self.shape) * self.dtype.itemsize
        return block[self.offset : self.offset + size].view(self.dtype).view(self.shape)


def pack(tensors: Iterable[torch.Tensor]) -> tuple[tuple[PackedTensor, ...], int]:
    """Places for these tensors one after the other, and the bytes they take together."""
    places, end = [], 0
    for tensor in tensors:
        places.append(PackedTensor(end, tensor.shape, tensor.dtype))
        end += -(-tensor.nbytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return tuple(places), end


def lock(arena: torch.Tensor, device: torch.device) -> None:
    """Register a filled arena with CUDA until it is freed; nothing to do when `device` is no GPU.

    Filled first, because pages that exist are registered faster. Raises RuntimeError when the driver refuses.
    """
    if device.type != "cuda" or not arena.nbytes:
        return
    runtime = torch.cuda.cudart()  # type: ignore[no-untyped-call]
    address = arena.data_ptr()
    torch.cuda.check_error(int(runtime.cudaHostRegister(address, arena.nbytes, 0)))
    weakref.finalize(arena, runtime.cudaHostUnregister, address).atexit = False
