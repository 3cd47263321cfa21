"""Published Wan pipelines: configs and the totals of the locked classes (a test counts them again).

Configs: diffusers' own conversion script for Wan (`scripts/convert_wan_to_diffusers.py`). Of the 720P and
480P image-to-video models only the sizes that they were trained for differ. Copies of their model_index.json
disagree about the image encoder's class (with or without the projection, 1.3 M elements that the pipeline
does not use), so that component is marked unchecked.
"""

from __future__ import annotations

from typing import Any

from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.planning.facts import BlockGroup

_SHARED: dict[str, Any] = {
    "patch_size": (1, 2, 2),
    "attention_head_dim": 128,
    "out_channels": 16,
    "text_dim": 4096,
    "freq_dim": 256,
}
_FOURTEEN_B: dict[str, Any] = _SHARED | {"num_layers": 40, "num_attention_heads": 40, "ffn_dim": 13_824}

UMT5_XXL = Part(
    name="text_encoder",
    class_name="UMT5EncoderModel",
    config={
        "vocab_size": 256_384,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10_240,
        "num_layers": 24,
        "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
    elements=5_680_910_336,
)
VAE = Part(
    name="vae",
    class_name="AutoencoderKLWan",
    config={"base_dim": 96, "z_dim": 16, "temperal_downsample": (False, True, True)},
    elements=126_892_531,
)
CLIP_VISION = Part(
    name="image_encoder",
    class_name="CLIPVisionModel",
    config={
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 16,
        "patch_size": 14,
        "image_size": 224,
        "projection_dim": 1024,
        "hidden_act": "gelu",
    },
    elements=630_766_080,
)
_BLOCKS_14B = (BlockGroup(path="blocks", count=40, elements=351_394_304, float32_elements=40_960),)
_T2V_14B = Part(
    name="transformer",
    class_name="WanTransformer3DModel",
    config=_FOURTEEN_B | {"in_channels": 16},
    elements=14_288_491_584,
    float32_elements=29_184_000,
    blocks=_BLOCKS_14B,
)
I2V_A14B_EXPERT = _T2V_14B.model_copy(
    update={"config": _FOURTEEN_B | {"in_channels": 36}, "elements": 14_288_901_184}
)
"""One expert of Wan2.2's image-to-video model: the text-to-video transformer with 36 input channels."""
_I2V_14B = Part(
    name="transformer",
    class_name="WanTransformer3DModel",
    config=_FOURTEEN_B | {"in_channels": 36, "image_dim": 1280, "added_kv_proj_dim": 5120},
    elements=16_394_878_784,
    float32_elements=29_196_800,
    blocks=(BlockGroup(path="blocks", count=40, elements=403_838_464, float32_elements=40_960),),
)
_TI2V_5B = Part(
    name="transformer",
    class_name="WanTransformer3DModel",
    config=_SHARED
    | {
        "num_layers": 30,
        "num_attention_heads": 24,
        "ffn_dim": 14_336,
        "in_channels": 48,
        "out_channels": 48,
    },
    elements=4_999_787_712,
    float32_elements=10_973_184,
    blocks=(BlockGroup(path="blocks", count=30, elements=163_656_704, float32_elements=24_576),),
)
VAE_5B = Part(
    name="vae",
    class_name="AutoencoderKLWan",
    config={
        "base_dim": 160,
        "decoder_base_dim": 256,
        "z_dim": 48,
        "is_residual": True,
        "in_channels": 12,
        "out_channels": 12,
        "patch_size": 2,
        "scale_factor_spatial": 16,
        "temperal_downsample": (False, True, True),
    },
    elements=704_688_668,
)
_T2V_1_3B = Part(
    name="transformer",
    class_name="WanTransformer3DModel",
    config=_SHARED | {"num_layers": 30, "num_attention_heads": 12, "ffn_dim": 8960, "in_channels": 16},
    elements=1_418_996_800,
    float32_elements=3_127_296,
    blocks=(BlockGroup(path="blocks", count=30, elements=46_440_704, float32_elements=12_288),),
)

WAN_T2V_1_3B = Inventory(pipeline="WanPipeline", parts=(UMT5_XXL, _T2V_1_3B, VAE))
WAN_2_2_TI2V_5B = Inventory(pipeline="WanPipeline", parts=(UMT5_XXL, _TI2V_5B, VAE_5B))
WAN_T2V_14B = Inventory(pipeline="WanPipeline", parts=(UMT5_XXL, _T2V_14B, VAE))
WAN_I2V_14B = Inventory(pipeline="WanImageToVideoPipeline", parts=(UMT5_XXL, CLIP_VISION, _I2V_14B, VAE))


def _with_second(pipeline: str, expert: Part) -> Inventory:
    second = expert.model_copy(update={"name": "transformer_2"})
    return Inventory(pipeline=pipeline, parts=(UMT5_XXL, expert, second, VAE))


WAN_2_2_T2V_A14B = _with_second("WanPipeline", _T2V_14B)
WAN_2_2_I2V_A14B = _with_second("WanImageToVideoPipeline", I2V_A14B_EXPERT)
