"""Functional collectives of ranks that share a GPU, by way of the host.

Gloo's own on CUDA tensors end the process (seen with torch 2.11). What a layout computes stays on the GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.distributed import _functional_collectives as collectives

NAMES = (
    "all_reduce",
    "all_gather_tensor",
    "all_gather_single",
    "all_to_all_single",
    "reduce_scatter_tensor",
    "reduce_scatter_single",
)
"""Those that torch, DTensor and diffusers call; newer torch has other names for two."""


def through_the_host() -> None:
    """For the rest of this process."""
    for name in NAMES:
        if hasattr(collectives, name):
            setattr(collectives, name, _by_way_of_the_host(getattr(collectives, name)))


def _by_way_of_the_host(collective: Callable[..., Any]) -> Callable[..., Any]:
    def call(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        result = collectives.wait_tensor(collective(tensor.cpu(), *args, **kwargs))
        return result.to(tensor.device)

    return call
