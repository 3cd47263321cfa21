"""Where each of several parameters lies in one piece of memory of exact size.

Nothing here knows when a parameter is needed, nor where the memory comes from.
"""

from __future__ import annotations

import math
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
        size = tensor.numel() * tensor.dtype.itemsize
        end += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return tuple(places), end
