"""Small components of every family's classes, random weights, written as their libraries write them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

TEXT: dict[str, Any] = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip
T5: dict[str, Any] = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
VISION: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 32, "patch_size": 16,
}  # fmt: skip
WAN_VAE: dict[str, Any] = {"base_dim": 8, "z_dim": 4, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}

DIFFUSERS: dict[str, dict[str, Any]] = {
    "QwenImageTransformer2DModel": {
        "num_layers": 2, "attention_head_dim": 16, "num_attention_heads": 2, "joint_attention_dim": 32,
        "axes_dims_rope": (4, 6, 6), "in_channels": 16, "out_channels": 4,
    },
    "WanTransformer3DModel": {
        "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4, "out_channels": 4,
        "text_dim": 32, "freq_dim": 16, "ffn_dim": 32, "num_layers": 2, "cross_attn_norm": True,
        "rope_max_seq_len": 32,
    },
    "ZImageTransformer2DModel": {
        "in_channels": 4, "dim": 32, "n_layers": 2, "n_refiner_layers": 1, "n_heads": 2, "n_kv_heads": 2,
        "cap_feat_dim": 32, "axes_dims": [8, 4, 4], "axes_lens": [64, 32, 32],
    },
    "FluxTransformer2DModel": {
        "in_channels": 16, "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 16,
        "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 16,
        "axes_dims_rope": (4, 6, 6), "guidance_embeds": True,
    },
    "LTX2VideoTransformer3DModel": {
        "in_channels": 8, "out_channels": 8, "num_attention_heads": 2, "attention_head_dim": 16,
        "cross_attention_dim": 32, "audio_in_channels": 8, "audio_out_channels": 8,
        "audio_num_attention_heads": 2, "audio_attention_head_dim": 8, "audio_cross_attention_dim": 16,
        "num_layers": 2, "caption_channels": 32,
    },
    "AutoencoderKLQwenImage": WAN_VAE,
    "AutoencoderKLWan": WAN_VAE,
    "AutoencoderKL": {
        "block_out_channels": (32, 32), "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2, "norm_num_groups": 8, "use_quant_conv": False,
    },
    "AutoencoderKLLTX2Video": {
        "latent_channels": 8, "block_out_channels": (8, 8, 8, 8), "decoder_block_out_channels": (8, 8, 8),
        "layers_per_block": (1, 1, 1, 1, 1), "decoder_layers_per_block": (1, 1, 1, 1),
    },
    "AutoencoderKLLTX2Audio": {"base_channels": 8, "ch_mult": (1, 2), "num_res_blocks": 1},
}  # fmt: skip

TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2_5_VLForConditionalGeneration": (
        "Qwen2_5_VLConfig",
        {
            "text_config": TEXT | {"rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}},
            "vision_config": {
                "depth": 1, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32
            },
        },
    ),
    "UMT5EncoderModel": ("UMT5Config", T5),
    "T5EncoderModel": ("T5Config", T5),
    "CLIPTextModel": (
        "CLIPTextConfig", {k: v for k, v in TEXT.items() if k != "num_key_value_heads"},
    ),
    "CLIPVisionModel": ("CLIPVisionConfig", VISION),
    "Qwen3Model": ("Qwen3Config", TEXT | {"head_dim": 8}),
    "Gemma3ForConditionalGeneration": (
        "Gemma3Config",
        {
            "text_config": TEXT | {"head_dim": 8},
            "vision_config": VISION,
            "mm_tokens_per_image": 4,
        },
    ),
    "Qwen3MoeModel": (
        "Qwen3MoeConfig", TEXT | {"head_dim": 8, "num_experts": 4, "moe_intermediate_size": 16},
    ),
}  # fmt: skip


def write_component(class_name: str, folder: Path, **saving: Any) -> Any:
    """The class, and a folder with random float32 weights of it; `saving` goes to `save_pretrained`."""
    torch.manual_seed(len(class_name))
    if class_name in DIFFUSERS:
        module = getattr(importlib.import_module("diffusers"), class_name)(**DIFFUSERS[class_name])
    else:
        package = importlib.import_module("transformers")
        config, values = TRANSFORMERS[class_name]
        module = getattr(package, class_name)(getattr(package, config)(**values))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-1, 1)  # what is left at its first value proves nothing
    module.save_pretrained(folder, **saving)
    return type(module)
