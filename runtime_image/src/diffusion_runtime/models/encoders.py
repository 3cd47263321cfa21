"""Cost of one prompt in the text encoders that the families share. Formulas only; no family is named here.

Only Qwen3-4B was measured (128 tokens on one H200, 2026-11-23: 142 MB beside the weights, 27.9 ms); the
others follow from their layers. Sizes are for 16-bit activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusion_runtime.models.inventory import Part
from diffusion_runtime.planning.facts import TextFacts

MATMUL_WORKSPACE_BYTES = 32 * 2**20
"""cuBLAS workspace that torch allocates on the first matmul of a Hopper GPU."""
_LAUNCH_SECONDS_PER_LAYER = 0.775e-3
"""27.9 ms for 36 layers of Qwen3-4B: launch bound."""
_GAP_SHARE = 0.4


def causal_encoder(part: Part, tokens: int, *, makes_logits: bool) -> TextFacts:
    """A decoder-only language model whose hidden states of every layer are kept."""
    config: Mapping[str, Any] = part.config.get("text_config", part.config)
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    logits = int(config["vocab_size"]) if makes_logits else 0
    per_token = 2 * ((layers + 1) * hidden + 4 * int(config["intermediate_size"]) + logits)
    return TextFacts(
        tokens=tokens,
        fixed_bytes=MATMUL_WORKSPACE_BYTES,
        bytes_per_token=per_token,
        gap_bytes=_GAP_SHARE * per_token * tokens,
        launch_seconds=_LAUNCH_SECONDS_PER_LAYER * layers,
        flops=2.0 * part.elements * tokens,
    )


def t5_encoder(part: Part, tokens: int) -> TextFacts:
    """One encoder pass of a T5 or UMT5 with float32 attention scores."""
    hidden, wide = int(part.config["d_model"]), int(part.config["d_ff"])
    heads, layers = int(part.config["num_heads"]), int(part.config["num_layers"])
    per_token = 8 * hidden + 6 * wide + 8 * heads * tokens
    embeddings = int(part.config["vocab_size"]) * hidden
    return TextFacts(
        tokens=tokens,
        fixed_bytes=MATMUL_WORKSPACE_BYTES,
        bytes_per_token=per_token,
        gap_bytes=_GAP_SHARE * per_token * tokens,
        launch_seconds=_LAUNCH_SECONDS_PER_LAYER * layers,
        flops=2.0 * max(0, part.elements - embeddings) * tokens,
    )


def sliceable(config: Mapping[str, Any]) -> tuple[int, int]:
    """Of a decoder-only language model: elements of the matrices that tensor parallelism slices (biases are
    left out), and the number that its ranks must divide; zeros where the config leaves that to its class.
    """
    text: Mapping[str, Any] = config.get("text_config", config)
    keys = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    if not all(text.get(key) for key in (*keys, "num_key_value_heads")):
        return 0, 0
    hidden, wide, layers, heads = (int(text[key]) for key in keys)
    pairs, per_head = int(text["num_key_value_heads"]), int(text.get("head_dim") or hidden // heads)
    return layers * (2 * hidden * per_head * (heads + pairs) + 3 * hidden * wide), pairs
