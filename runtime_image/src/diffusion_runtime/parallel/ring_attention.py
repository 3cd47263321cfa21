"""torch's own attention with the log-sum-exp of its scores, by which ring attention merges parts.

`scaled_dot_product_attention` keeps that number to itself, so the kernels below it are called: flash on the
CPU in any dtype, on CUDA flash for half precision and memory-efficient attention for float32.
"""

from __future__ import annotations

from typing import Any

import torch

_HALF = (torch.bfloat16, torch.float16)


def attention_for_ring(
    _: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    return_lse: bool = False,
    **__: Any,
) -> Any:
    """A forward op of diffusers' attention dispatch. q, k, v: (batch, tokens, heads, width).

    Returns (batch, tokens, heads, width), and with `return_lse` (batch, tokens, heads) beside it.
    """
    if attn_mask is not None or is_causal or enable_gqa or dropout_p:
        raise RuntimeError("ring attention takes no mask, causality, grouped heads or dropout")
    query, key, value = (tensor.transpose(1, 2).contiguous() for tensor in (query, key, value))
    out, lse = _kernel(query, key, value, scale)
    out, lse = out.transpose(1, 2).contiguous(), lse.transpose(1, 2).contiguous()
    return (out, lse) if return_lse else out


def _kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """q, k, v: (batch, heads, tokens, width); log-sum-exp: (batch, heads, tokens)."""
    aten = torch.ops.aten
    if query.device.type == "cpu":
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(query, key, value, scale=scale)
    elif query.dtype in _HALF:
        out, lse, *_ = aten._scaled_dot_product_flash_attention(query, key, value, scale=scale)
    else:
        out, lse, *_ = aten._scaled_dot_product_efficient_attention(
            query, key, value, None, compute_log_sumexp=True, scale=scale
        )
        lse = lse[..., : query.shape[2]]  # the kernel pads it
    return out, lse
