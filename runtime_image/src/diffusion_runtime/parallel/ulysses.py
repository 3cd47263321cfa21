"""Sequence parallelism: each rank holds a part of the tokens, attention swaps tokens for heads (Ulysses).

The splitting is the model's own context-parallel plan in diffusers, applied with our mesh, because diffusers
counts accelerators to make one and finds none on a CPU. Prompts have any number of tokens: where the ranks
divide them, parts are equal; else they differ by one token and ranks tell each other their lengths in every
attention, which waits for the device. Masks are refused: diffusers trims unequal parts of a mask wrongly.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models import attention_dispatch
from diffusers.models._modeling_parallel import ParallelConfig
from torch.distributed.device_mesh import DeviceMesh


def apply_ulysses(transformer: Any, mesh: DeviceMesh, device: torch.device) -> None:
    """Split the sequence over the ranks of `mesh` (axes `ring`, of one rank, and `ulysses`).

    ValueError for a model without a plan.
    """
    plan = transformer._cp_plan
    if plan is None:
        raise ValueError(f"{type(transformer).__name__} has no context-parallel plan in diffusers")
    sequence = ContextParallelConfig(ulysses_degree=mesh["ulysses"].size())
    config = ParallelConfig(context_parallel_config=sequence)
    config.setup(mesh["ulysses"].get_local_rank(), sequence.ulysses_degree, device, mesh=mesh)
    config.number = len(_configs)
    _configs.append(config)
    for module in transformer.modules():
        processor = getattr(module, "processor", None)
        if processor is not None and hasattr(processor, "_parallel_config"):
            processor._parallel_config = config
    apply_context_parallel(transformer, sequence, plan)
    transformer.register_forward_pre_hook(_choose_parts(sequence), with_kwargs=True)


def _choose_parts(sequence: Any) -> Callable[[torch.nn.Module, Any, dict[str, Any]], None]:
    """Before a forward: whether its image and text tokens divide evenly. Same answer on every rank."""

    def hook(transformer: torch.nn.Module, _: Any, kwargs: dict[str, Any]) -> None:
        if kwargs.get("encoder_hidden_states_mask") is not None:
            raise RuntimeError("Ulysses cannot split a text mask; one prompt at a time needs none")
        tokens = _split_tokens(transformer, kwargs)
        sequence.ulysses_anything = any(count % sequence.ulysses_degree for count in tokens)

    return hook


def _split_tokens(transformer: Any, kwargs: dict[str, Any]) -> tuple[int, ...]:
    """Lengths of what is split: packed latents and the prompt; of a clip (batch, channels, frames, rows,
    columns) its patches, beside which the whole prompt goes to every rank.
    """
    latents = kwargs["hidden_states"]
    if latents.ndim != 5:
        return latents.shape[1], kwargs["encoder_hidden_states"].shape[1]
    patches = zip(latents.shape[2:], transformer.config.patch_size, strict=True)
    return (prod(side // patch for side, patch in patches),)


@torch.library.custom_op("diffusion_runtime::split_attention", mutates_args=())
def split_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float | None,
    forward_name: str,
    config_number: int,
) -> torch.Tensor:
    """diffusers' attention over a split sequence, (1, own tokens, heads, head width), as one step of a graph.

    Inside of a graph the lengths of unequal parts, which ranks tell each other, would be unknown numbers.
    """
    forward = getattr(attention_dispatch, forward_name)
    split: torch.Tensor = _exchange(
        query,
        key,
        value,
        scale=scale,
        forward_op=forward,
        backward_op=None,
        _parallel_config=_configs[config_number],
    )
    return split


@split_attention.register_fake
def _shape_of_split_attention(query: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(query)


def _exchange_or_step(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """What diffusers calls instead of its own exchange: the same, or one step of the graph being traced."""
    if not torch.compiler.is_compiling():
        return _exchange(query, key, value, *args, **kwargs)
    mask, scale = args[0], args[3]
    if mask is not None:
        raise RuntimeError("compiled Ulysses attention takes no mask")
    name = kwargs["forward_op"].__name__
    return split_attention(query, key, value, scale, name, kwargs["_parallel_config"].number)


_configs: list[ParallelConfig] = []
_exchange = attention_dispatch._templated_context_parallel_attention
attention_dispatch._templated_context_parallel_attention = _exchange_or_step
