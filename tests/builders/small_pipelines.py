"""Writes a diffusers folder of every family: the real classes with random weights, as small as they allow.

A folder is deterministic: weights follow from the family's name. What a picture of them shows is noise; that
two ways to draw it agree is what they are for. `SMALL` is the list; a family adds one function and one line.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLQwenImage,
    FlowMatchEulerDiscreteScheduler,
    FluxPipeline,
    FluxTransformer2DModel,
    QwenImageTransformer2DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from builders.small_tokenizers import VOCABULARY, clip_tokenizer, qwen_tokenizer, t5_tokenizer
from builders.small_videos import SMALL_VIDEOS
from builders.small_weights import enliven

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


def write_qwen_image_edit(folder: Path) -> None:
    """The demo's encoder and tokenizer, a VAE that makes few tokens of the megapixel that an edit sees."""
    _write_qwen_image_edit(folder, "QwenImageEditPipeline")


def write_qwen_image_edit_plus(folder: Path) -> None:
    """The same for several pictures."""
    _write_qwen_image_edit(folder, "QwenImageEditPlusPipeline")


def _write_qwen_image_edit(folder: Path, pipeline_class: str) -> None:
    torch.manual_seed(1)
    encoder = Qwen2_5_VLForConditionalGeneration.from_pretrained(str(DEMO / "text_encoder"))
    transformer = QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=LATENT_CHANNELS * 4,
        out_channels=LATENT_CHANNELS,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=encoder.config.text_config.hidden_size,
        axes_dims_rope=(4, 6, 6),
    )
    enliven(transformer)
    vae = AutoencoderKLQwenImage(
        base_dim=2,
        z_dim=LATENT_CHANNELS,
        dim_mult=[1] * 6,
        num_res_blocks=1,
        temperal_downsample=[False] * 5,
        latents_mean=[0.0] * LATENT_CHANNELS,
        latents_std=[1.0] * LATENT_CHANNELS,
    )
    vision = encoder.config.vision_config
    reader = Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
        min_pixels=256,
        max_pixels=1024,
    )
    parts = {
        "text_encoder": encoder,
        "transformer": transformer,
        "vae": vae,
        "scheduler": FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        "tokenizer": qwen_tokenizer(),
    }
    for name, part in parts.items():
        part.save_pretrained(str(folder / name))
    for part in (reader, qwen_tokenizer()):
        part.save_pretrained(str(folder / "processor"))
    index = {name: [_library(part), type(part).__name__] for name, part in parts.items()}
    index |= {"processor": ["transformers", "Qwen2VLProcessor"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": pipeline_class, **index}))


def _library(part: Any) -> str:
    return type(part).__module__.partition(".")[0]


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
    """Write the folder, its transformer enlivened."""
    for name, module in pipeline.components.items():
        if isinstance(module, torch.nn.Module) and name.startswith("transformer"):
            enliven(module)
    pipeline.save_pretrained(str(folder), safe_serialization=True)


SMALL: dict[str, Callable[[Path], None]] = {
    "qwen-image": write_qwen_image,
    "qwen-image edit": write_qwen_image_edit,
    "qwen-image edit plus": write_qwen_image_edit_plus,
    "z-image": write_z_image,
    "flux": write_flux,
    "flux schnell": write_flux_schnell,
    **SMALL_VIDEOS,
}
"""Name -> writes the pipeline into a folder that need not exist."""
