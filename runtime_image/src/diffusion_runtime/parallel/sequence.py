"""Sequence parallelism: each rank holds a part of the tokens. Ulysses swaps tokens for heads in every
attention; ring passes keys and values around and merges what each part contributes.

The splitting is the model's own context-parallel plan in diffusers, applied with our mesh, because diffusers
counts accelerators to make one and finds none on a CPU. Prompts have any number of tokens: where the ranks
divide them, parts are equal; else they differ by one token and ranks tell each other their lengths in every
attention, which waits for the device. Masks are refused: diffusers trims unequal parts of a mask wrongly.
So are ring and Ulysses at once: diffusers cannot do that with unequal parts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from diffusers import ContextParallelConfig
from diffusers.hooks.context_parallel import apply_context_parallel
from diffusers.models import attention_dispatch
from diffusers.models._modeling_parallel import ParallelConfig
from torch.distributed.device_mesh import DeviceMesh

from .ring_attention import attention_for_ring

TEXT, MASKS = "encoder_hidden_states", ("encoder_hidden_states_mask", "encoder_attention_mask")


def apply_sequence_parallel(transformer: Any, mesh: DeviceMesh, device: torch.device) -> None:
    """Split the sequence over the ranks of `mesh` (axes `ring` and `ulysses`, one of them of one rank).

    ValueError for a model without a plan.
    """
    plan = transformer._cp_plan
    if plan is None:
        raise ValueError(f"{type(transformer).__name__} has no context-parallel plan in diffusers")
    sequence = ContextParallelConfig(ring_degree=mesh["ring"].size(), ulysses_degree=mesh["ulysses"].size())
    config = ParallelConfig(context_parallel_config=sequence)
    ranks = sequence.ring_degree * sequence.ulysses_degree
    config.setup(max(mesh[axis].get_local_rank() for axis in ("ring", "ulysses")), ranks, device, mesh=mesh)
    config.number = len(_configs)
    _configs.append(config)
    for module in transformer.modules():
        processor = getattr(module, "processor", None)
        if processor is not None and hasattr(processor, "_parallel_config"):
            processor._parallel_config = config
    apply_context_parallel(transformer, sequence, plan)
    transformer.register_forward_pre_hook(_choose_parts(transformer, sequence, ranks), with_kwargs=True)


def _choose_parts(
    transformer: Any, sequence: Any, ranks: int
) -> Callable[[torch.nn.Module, Any, dict[str, Any]], None]:
    """Before a forward: whether its image and text tokens divide evenly. Same answer on every rank."""
    split = {name for inputs in transformer._cp_plan.values() if isinstance(inputs, dict) for name in inputs}
    unequal = "ring_anything" if sequence.ring_degree > 1 else "ulysses_anything"

    def hook(_: torch.nn.Module, __: Any, kwargs: dict[str, Any]) -> None:
        if any(kwargs.get(name) is not None for name in MASKS if name in split):
            raise RuntimeError("a text mask cannot be split over ranks; one prompt at a time needs none")
        tokens = [_image_tokens(transformer, kwargs["hidden_states"])]
        if TEXT in split:
            tokens.append(kwargs[TEXT].shape[1])
        setattr(sequence, unequal, any(count % ranks for count in tokens))

    return hook


def _image_tokens(transformer: Any, latents: torch.Tensor) -> int:
    """Of (batch, tokens, channels), or of (batch, channels, frames, rows, columns) that the model packs."""
    if latents.ndim == 3:
        return latents.shape[1]
    sides = zip(latents.shape[2:], transformer.config.patch_size, strict=True)
    return math.prod(side // patch for side, patch in sides)


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
    config = _configs[config_number]
    split: torch.Tensor = _exchange(
        query,
        key,
        value,
        scale=scale,
        forward_op=_forward(forward, config),
        backward_op=None,
        _parallel_config=config,
    )
    return split


@split_attention.register_fake
def _shape_of_split_attention(query: torch.Tensor, *_: Any) -> torch.Tensor:
    return torch.empty_like(query)


def _exchange_or_step(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
    """What diffusers calls instead of its own exchange: the same, or one step of the graph being traced."""
    config = kwargs["_parallel_config"]
    if not torch.compiler.is_compiling():
        kwargs["forward_op"] = _forward(kwargs["forward_op"], config)
        return _exchange(query, key, value, *args, **kwargs)
    mask, scale = args[0], args[3]
    if mask is not None:
        raise RuntimeError("compiled attention over a split sequence takes no mask")
    return split_attention(query, key, value, scale, kwargs["forward_op"].__name__, config.number)


def _forward(forward: Any, config: Any) -> Any:
    """torch's own choice of kernel returns nothing to merge parts by, so ring chooses for it."""
    native = forward is attention_dispatch._native_attention_forward_op
    return attention_for_ring if native and config.context_parallel_config.ring_degree > 1 else forward


_configs: list[ParallelConfig] = []
_exchange = attention_dispatch._templated_context_parallel_attention
attention_dispatch._templated_context_parallel_attention = _exchange_or_step
