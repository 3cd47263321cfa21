"""Writes small video pipelines with random weights as diffusers folders, one per pipeline that is served.

Same classes, block structure and folder layout as the published models; a folder takes about a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

from builders.small_weights import enliven

WIDTH = 32
"""Of prompts in every small encoder."""
WAN_TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 4,
    "attention_head_dim": 12,
    "in_channels": 16,
    "out_channels": 16,
    "text_dim": WIDTH,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 4,
    "rope_max_seq_len": 32,
}
WAN_VAE: dict[str, Any] = {"base_dim": 4, "z_dim": 16, "dim_mult": [1, 1, 1, 1], "num_res_blocks": 1}
CLIP: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}


def wan(folder: Path) -> None:
    """Wan 2.1, text to video."""
    WanPipeline(**_wan_parts(), transformer=_wan_transformer()).save_pretrained(folder)


def wan_image_to_video(folder: Path) -> None:
    """Wan 2.1, image to video: 20 more input channels for the first picture, and CLIP's view of it."""
    torch.manual_seed(1)
    side = CLIP["image_size"]
    WanImageToVideoPipeline(
        **_wan_parts(),
        transformer=_wan_transformer(in_channels=36, image_dim=CLIP["hidden_size"], added_kv_proj_dim=48),
        image_encoder=CLIPVisionModel(CLIPVisionConfig(**CLIP)),
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}
        ),
    ).save_pretrained(folder)


def wan_two_experts(folder: Path) -> None:
    """Wan 2.2, text to video: the second transformer takes over below 0.875 of the noise."""
    first, second = _wan_transformer(), _wan_transformer(seed=2)
    WanPipeline(
        **_wan_parts(), transformer=first, transformer_2=second, boundary_ratio=0.875
    ).save_pretrained(folder)


def wan_two_experts_image_to_video(folder: Path) -> None:
    """Wan 2.2, image to video: two transformers, no CLIP."""
    first, second = (_wan_transformer(in_channels=36, seed=seed) for seed in (1, 2))
    WanImageToVideoPipeline(
        **_wan_parts(), transformer=first, transformer_2=second, boundary_ratio=0.9
    ).save_pretrained(folder)


def _wan_transformer(seed: int = 1, **changes: Any) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    transformer = WanTransformer3DModel(**WAN_TRANSFORMER | changes)
    enliven(transformer)
    return transformer


def _wan_parts() -> dict[str, Any]:
    torch.manual_seed(0)
    tokenizer = small_t5_tokenizer()
    config = UMT5Config(
        vocab_size=len(tokenizer), d_model=WIDTH, d_kv=8, d_ff=32, num_layers=2, num_heads=4,
        tie_word_embeddings=False,
    )  # fmt: skip
    return {
        "tokenizer": tokenizer,
        "text_encoder": UMT5EncoderModel(config),
        "vae": AutoencoderKLWan(**WAN_VAE),
        "scheduler": UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    }


def small_t5_tokenizer() -> T5Tokenizer:
    """One token a letter."""
    letters = [(letter, -1.0) for letter in "▁abcdefghijklmnopqrstuvwxyz,."]
    return T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0, model_max_length=512
    )


SMALL_VIDEOS: dict[str, Callable[[Path], None]] = {
    "wan": wan,
    "wan-i2v": wan_image_to_video,
    "wan-2.2": wan_two_experts,
    "wan-2.2-i2v": wan_two_experts_image_to_video,
}
