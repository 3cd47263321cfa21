"""Writes small video pipelines with random weights as diffusers folders, one per pipeline that is served.

Same classes, block structure and folder layout as the published models; a folder takes about a second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKLLTX2Audio,
    AutoencoderKLLTX2Video,
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    LTX2Pipeline,
    LTX2VideoTransformer3DModel,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplerModel, LTX2TextConnectors, LTX2Vocoder
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    CLIPVisionModel,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GemmaTokenizer,
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
PACKED_VAE: dict[str, Any] = WAN_VAE | {
    "in_channels": 12, "out_channels": 12, "patch_size": 2, "is_residual": True, "scale_factor_spatial": 16,
}  # fmt: skip
LTX_TRANSFORMER: dict[str, Any] = {
    "in_channels": 4, "out_channels": 4, "num_attention_heads": 2, "attention_head_dim": 8,
    "cross_attention_dim": 16, "audio_in_channels": 4, "audio_out_channels": 4,
    "audio_num_attention_heads": 2, "audio_attention_head_dim": 4, "audio_cross_attention_dim": 8,
    "num_layers": 4, "caption_channels": WIDTH, "rope_double_precision": False, "rope_type": "split",
}  # fmt: skip
_LTX_CONNECTOR: dict[str, Any] = {
    "num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 1, "num_learnable_registers": None,
}  # fmt: skip
LTX_CONNECTORS: dict[str, Any] = {
    "caption_channels": WIDTH,
    "text_proj_in_factor": 3,
    "connector_rope_base_seq_len": 32,
    "rope_double_precision": False,
    "rope_type": "split",
    **{f"{kind}_connector_{key}": v for kind in ("video", "audio") for key, v in _LTX_CONNECTOR.items()},
}
LTX_VAE: dict[str, Any] = {
    "latent_channels": 4, "block_out_channels": (8,), "decoder_block_out_channels": (8,),
    "layers_per_block": (1,), "decoder_layers_per_block": (1, 1), "spatio_temporal_scaling": (True,),
    "decoder_spatio_temporal_scaling": (True,), "decoder_inject_noise": (False, False),
    "downsample_type": ("spatial",), "upsample_residual": (False,), "upsample_factor": (1,),
    "patch_size": 4, "patch_size_t": 1, "decoder_causal": False,
}  # fmt: skip
LTX_AUDIO_VAE: dict[str, Any] = {
    "base_channels": 4, "output_channels": 2, "ch_mult": (1,), "num_res_blocks": 1, "in_channels": 2,
    "resolution": 32, "latent_channels": 2, "mid_block_add_attention": False, "mel_bins": 8,
}  # fmt: skip
LTX_VOCODER: dict[str, Any] = {
    "in_channels": 16, "hidden_channels": 32, "upsample_kernel_sizes": [32, 20], "upsample_factors": [16, 10],
    "resnet_kernel_sizes": [3], "resnet_dilations": [[1, 3, 5]], "output_sampling_rate": 16000,
}  # fmt: skip
LTX_UPSAMPLER: dict[str, Any] = {"in_channels": 4, "mid_channels": 32, "num_blocks_per_stage": 1}
LETTERS = "▁abcdefghijklmnopqrstuvwxyz,."
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


def wan_token_times(folder: Path) -> None:
    """Wan 2.2's 5B model: a time for every token, and a VAE that packs two pixels a side."""
    channels = PACKED_VAE["z_dim"]
    WanPipeline(
        **_wan_parts() | {"vae": _packed_vae()},
        transformer=_wan_transformer(in_channels=channels, out_channels=channels),
        expand_timesteps=True,
    ).save_pretrained(folder)


def _packed_vae() -> AutoencoderKLWan:
    torch.manual_seed(0)
    return AutoencoderKLWan(**PACKED_VAE)


def ltx_2(folder: Path) -> None:
    """LTX-2: a transformer for picture and sound, Gemma with its connectors, two VAEs, a vocoder; beside the
    pipeline its latent upsampler.
    """
    torch.manual_seed(3)
    LTX2Pipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLLTX2Video(**LTX_VAE),
        audio_vae=AutoencoderKLLTX2Audio(**LTX_AUDIO_VAE),
        text_encoder=_gemma(),
        tokenizer=small_gemma_tokenizer(),
        connectors=LTX2TextConnectors(**LTX_CONNECTORS),
        transformer=LTX2VideoTransformer3DModel(**LTX_TRANSFORMER),
        vocoder=LTX2Vocoder(**LTX_VOCODER),
    ).save_pretrained(folder)
    LTX2LatentUpsamplerModel(**LTX_UPSAMPLER).save_pretrained(folder / "latent_upsampler")


def _gemma() -> Gemma3ForConditionalGeneration:
    text = {
        "vocab_size": len(small_gemma_tokenizer()) + 4, "hidden_size": WIDTH, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "max_position_embeddings": 2048,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "image_size": 16, "patch_size": 8, "vision_use_head": False,
    }  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    return Gemma3ForConditionalGeneration(config)


def small_gemma_tokenizer() -> GemmaTokenizer:
    """One token a letter."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", *LETTERS]
    return GemmaTokenizer(
        vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=1024
    )


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
    letters = [(letter, -1.0) for letter in LETTERS]
    return T5Tokenizer(
        vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *letters], extra_ids=0, model_max_length=512
    )


SMALL_VIDEOS: dict[str, Callable[[Path], None]] = {
    "wan": wan,
    "wan-i2v": wan_image_to_video,
    "wan-2.2": wan_two_experts,
    "wan-2.2-i2v": wan_two_experts_image_to_video,
    "wan-2.2-5b": wan_token_times,
    "ltx-2": ltx_2,
}
