"""Weights that are not where they are used are NaN: whoever computes with them draws NaN, never a picture.

On a CPU a late or missing move would otherwise go unnoticed, because the host can compute with its own copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from diffusion_runtime.generation import build
from diffusion_runtime.planning.documents import Residency
from diffusion_runtime.residency.layerwise import LayerwiseBlocks, Slot
from diffusion_runtime.storage import Fill

_place = build.place
_release, _allocate = LayerwiseBlocks._release, LayerwiseBlocks._allocate


def poison() -> None:
    """For the rest of this process: components moved whole, and slots of streamed blocks."""
    build.place = place
    LayerwiseBlocks._release = release
    LayerwiseBlocks._allocate = allocate


def place(
    module: torch.nn.Module,
    residency: Residency,
    device: torch.device,
    fill: Fill,
    blocks: Sequence[torch.nn.Module] = (),
) -> Any:
    """As the engine's, but a component that is not in use has NaN for weights.

    Buffers stay: pipelines read a VAE's statistics from the host while it is away, and may.
    """
    in_use = _place(module, residency, device, fill, blocks)
    if residency.mode != "component":
        return in_use
    tensors = [parameter for parameter in module.parameters() if parameter.is_floating_point()]
    host = [tensor.data for tensor in tensors]
    away = [torch.full_like(data, torch.nan) for data in host]
    hold(tensors, away)

    @contextmanager
    def poisoned() -> Iterator[None]:
        hold(tensors, host)
        try:
            with in_use():
                copies = [tensor.data for tensor in tensors]
                yield
        finally:
            for copy in copies:
                copy.fill_(torch.nan)
            hold(tensors, away)

    def use() -> AbstractContextManager[None]:
        return poisoned()

    return use


def hold(tensors: Sequence[torch.Tensor], data: Sequence[torch.Tensor]) -> None:
    for tensor, its in zip(tensors, data, strict=True):
        tensor.data = its


def release(self: LayerwiseBlocks, slot: Slot) -> None:
    """A slot is NaN again from its release on."""
    _release(self, slot)
    slot.bytes.fill_(255)


def allocate(self: LayerwiseBlocks, size: int) -> torch.Tensor:
    """A slot is NaN until a block arrives."""
    return _allocate(self, size).fill_(255)
