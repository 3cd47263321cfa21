"""Random weights to which a prompt and a guidance scale make a difference; fresh ones hardly read them."""

from __future__ import annotations

import torch


@torch.no_grad()
def enliven(module: torch.nn.Module) -> None:
    """Matrices as large as keep the size of what passes through; biases and tokens not zero."""
    for parameter in module.parameters():
        if parameter.ndim == 2 and parameter.shape[0] > 1:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
        elif not bool(parameter.any()):
            parameter.normal_(std=0.1)
