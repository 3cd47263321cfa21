"""A module in memory as loading hands one on: parameters on the meta device, and the call that fills them."""

from __future__ import annotations

import torch

from diffusion_runtime.loading.component import META, fill_from_memory
from diffusion_runtime.storage import Fill, put


def emptied(module: torch.nn.Module) -> Fill:
    """Takes the storage away from `module`; what it returns brings the weights back."""
    weights = {name: parameter.detach() for name, parameter in module.named_parameters()}
    put(module, {name: weight.to(META) for name, weight in weights.items()})
    return fill_from_memory(weights)
