"""Writes a diffusers folder of every family: the real classes with random weights, as small as they allow.

A folder is deterministic: weights follow from the family's name. What a picture of them shows is noise; that
two ways to draw it agree is what they are for. `SMALL` is the list; a family adds one function and one line.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, Qwen3Config, Qwen3Model, T5Config, T5EncoderModel

from builders.small_tokenizers import VOCABULARY, clip_tokenizer, qwen_tokenizer, t5_tokenizer
from builders.small_videos import SMALL_VIDEOS

DEMO = Path(__file__).parents[2] / "runtime_image" / "models" / "demo"
WIDTH = 32
"""Of every text encoder."""
LATENT_CHANNELS = 4
PICTURE_VAE: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "latent_channels": LATENT_CHANNELS,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "scaling_factor": 0.36,
    "shift_factor": 0.12,
}
SCHEDULER: dict[str, Any] = {"num_train_timesteps": 1000, "use_dynamic_shifting": True}


def write_qwen_image(folder: Path) -> None:
    """The demo model itself: it is as small as any."""
    shutil.copytree(DEMO, folder, dirs_exist_ok=True)


def write_z_image(folder: Path) -> None:
    """Two refiner blocks of each kind and four layers; 4 heads."""
    torch.manual_seed(2)
    text = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=2048,
    )
    transformer = ZImageTransformer2DModel(
        in_channels=LATENT_CHANNELS,
        dim=64,
        n_layers=4,
        n_refiner_layers=2,
        n_heads=4,
        n_kv_heads=4,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 6, 6],
        axes_lens=[1536, 64, 64],
    )
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0),
        vae=AutoencoderKL(**PICTURE_VAE),
        text_encoder=Qwen3Model(text),
        tokenizer=qwen_tokenizer(),
        transformer=transformer,
    )
    save(pipeline, folder)


def write_flux(folder: Path) -> None:
    """FLUX.1-dev: guided by an embedding."""
    _write_flux(folder, guidance_embeds=True, seed=3)


def write_flux_schnell(folder: Path) -> None:
    """FLUX.1-schnell: no guidance at all."""
    _write_flux(folder, guidance_embeds=False, seed=4)


def _write_flux(folder: Path, guidance_embeds: bool, seed: int) -> None:
    torch.manual_seed(seed)
    clip, t5 = clip_tokenizer(), t5_tokenizer()
    clip_config = CLIPTextConfig(
        vocab_size=len(clip),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=WIDTH,
        bos_token_id=clip.bos_token_id,
        eos_token_id=clip.eos_token_id,
        pad_token_id=clip.pad_token_id,
    )
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=LATENT_CHANNELS * 4,
        num_layers=3,
        num_single_layers=3,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=guidance_embeds,
        axes_dims_rope=(4, 6, 6),
    )
    pipeline = FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        vae=AutoencoderKL(**PICTURE_VAE),
        text_encoder=CLIPTextModel(clip_config),
        tokenizer=clip,
        text_encoder_2=T5EncoderModel(small_t5_config(len(t5))),
        tokenizer_2=t5,
        transformer=transformer,
    )
    save(pipeline, folder)


def small_t5_config(vocabulary: int) -> T5Config:
    """Of a T5 encoder `WIDTH` wide."""
    return T5Config(
        vocab_size=vocabulary,
        d_model=WIDTH,
        d_kv=8,
        d_ff=64,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )


def save(pipeline: Any, folder: Path) -> None:
    """Write the folder, with weights scaled up: freshly initialised ones hardly read their inputs."""
    for name, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module) and name.startswith("transformer"):
            _enliven(module)
    pipeline.save_pretrained(str(folder), safe_serialization=True)


@torch.no_grad()
def _enliven(module: torch.nn.Module) -> None:
    """Matrices as large as keep the size of what passes through; biases and tokens not zero."""
    for parameter in module.parameters():
        if parameter.ndim == 2 and parameter.shape[0] > 1:
            parameter.normal_(std=parameter.shape[1] ** -0.5)
        elif not bool(parameter.any()):
            parameter.normal_(std=0.1)


SMALL: dict[str, Callable[[Path], None]] = {
    "qwen-image": write_qwen_image,
    "z-image": write_z_image,
    "flux": write_flux,
    "flux schnell": write_flux_schnell,
    **SMALL_VIDEOS,
}
"""Name -> writes the pipeline into a folder that need not exist. The first word is the engine's family."""
