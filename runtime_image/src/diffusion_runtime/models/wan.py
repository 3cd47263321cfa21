"""The Wan 2.1 text-to-video family: one transformer, UMT5-XXL encoder, Wan VAE.

Coefficients are fitted on the 480p cells of the 1.3B and 14B models measured on one H200 (2026-11-23, torch
2.11, diffusers 0.42.1), as a x channels + b x feed-forward width. Tensor parallelism is not offered: the
class has no plan for it. The VAE stays in float32, as its publisher runs it.
"""

from __future__ import annotations

from typing import Any

from diffusion_runtime.models.family import ComponentRule, Family
from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.planning.documents import ModelRef, Shape
from diffusion_runtime.planning.facts import (
    BlockGroup,
    ComponentFacts,
    DecodeFacts,
    DenoiseFacts,
    ModelFacts,
    SizeRule,
    TextFacts,
)

NAME = "wan"
PROMPT_TOKENS = 512
FRAMES_PER_LATENT = 4
ROPE_POSITIONS = 1024
DEFAULT_SHAPE = Shape(width=832, height=480, frames=81, steps=50)
_REFERENCE_VAE_CHANNELS = 96

# (a, b): bytes per token = a x channels + b x feed-forward width.
_TOKEN_BYTES = (13.09, 3.2326)
_COMPILED_TOKEN_BYTES = (6.800, 1.9834)
_GAP_BYTES = (1.727, 2.0528)
_COMPILED_GAP_BYTES = (6.4326, 1.0156)
_GAP_FIXED_BYTES = (95_610.0, 13_967.0)
_FIXED_BYTES_PER_CHANNEL = 35_000.0
_COMPILED_GAP_FIXED_BYTES_PER_CHANNEL = 12_750.0
_LAUNCH_SECONDS_PER_BLOCK = 1.2e-3
_ELEMENTWISE_SECONDS = 8.9e-11
_COMPILED_ELEMENTWISE_SECONDS = 2.0e-11
_LAUNCH_SECONDS_PER_ENCODER_LAYER = 0.775e-3


def build(inventory: Inventory, model: ModelRef, default_shape: Shape | None = None) -> ModelFacts:
    """Facts of a Wan text-to-video pipeline. KeyError names a config key that is missing."""
    transformer, vae = inventory.part("transformer"), inventory.part("vae")
    pixels = 2 ** len(vae.config["temperal_downsample"]) * int(transformer.config["patch_size"][1])
    return ModelFacts(
        model=model,
        components=tuple(_component(part) for part in inventory.parts),
        guided_by_default=True,
        default_shape=default_shape or DEFAULT_SHAPE,
        sizes=SizeRule(multiple=pixels, frame_multiple=FRAMES_PER_LATENT),
        denoise=_denoise(transformer.config, pixels),
        decode=_decode(vae.config),
        text=_text(inventory.part("text_encoder")),
        correct_axes=("cfg", "ulysses", "ring", "fsdp"),
        proven_axes=("cfg", "fsdp"),
        correct_dtypes=("bfloat16", "float32"),
        # Measured faster and smaller compiled, but the engine draws eagerly: turn on when it compiles.
        compile_proven=False,
        sources=(
            "elements: meta-device instantiation of the locked diffusers and transformers classes",
            "FSDP and CFG parallel: the cookbook's validated multi-GPU Wan deployments",
            "ulysses 2 ran on 2 x H200, 2026-11-23; ring by the cookbook, parity pending",
        ),
    )


def _component(part: Part) -> ComponentFacts:
    rule = FAMILY.components[part.name]
    transformer = rule.kind == "transformer"
    rope = ROPE_POSITIONS * int(part.config["attention_head_dim"]) * 2 * 4 if transformer else 0
    return ComponentFacts(
        name=part.name,
        kind=rule.kind,
        class_name=part.class_name,
        elements=part.elements,
        float32_elements=part.float32_elements,
        buffer_bytes=rope,
        blocks=part.blocks,
        default_dtype="float32" if rule.kind == "vae" else "bfloat16",
        stored_bytes=part.stored_bytes,
        correct_residencies=("resident", "component", "layerwise")
        if transformer
        else ("resident", "component"),
    )


def _denoise(config: dict[str, Any], token_pixels: int) -> DenoiseFacts:
    heads, layers = int(config["num_attention_heads"]), int(config["num_layers"])
    channels, wide = heads * int(config["attention_head_dim"]), int(config["ffn_dim"])

    def sized(pair: tuple[float, float]) -> float:
        return pair[0] * channels + pair[1] * wide

    return DenoiseFacts(
        token_pixels=token_pixels,
        token_frames=FRAMES_PER_LATENT,
        text_tokens=PROMPT_TOKENS,
        text_joins_attention=False,
        heads=heads,
        matmul_flops_per_token=2 * (6 * channels**2 + 2 * channels * wide) * layers,
        attention_flops_per_pair=4 * channels * layers,
        fixed_bytes=_FIXED_BYTES_PER_CHANNEL * channels,
        compiled_fixed_bytes=_FIXED_BYTES_PER_CHANNEL * channels,
        bytes_per_token=sized(_TOKEN_BYTES),
        compiled_bytes_per_token=sized(_COMPILED_TOKEN_BYTES),
        gap_fixed_bytes=sized(_GAP_FIXED_BYTES),
        gap_bytes_per_token=sized(_GAP_BYTES),
        compiled_gap_fixed_bytes=_COMPILED_GAP_FIXED_BYTES_PER_CHANNEL * channels,
        compiled_gap_bytes_per_token=sized(_COMPILED_GAP_BYTES),
        launch_seconds=_LAUNCH_SECONDS_PER_BLOCK * layers,
        elementwise_seconds_per_token=_ELEMENTWISE_SECONDS * channels * layers,
        compiled_elementwise_seconds_per_token=_COMPILED_ELEMENTWISE_SECONDS * channels * layers,
        tensor_sharded_fraction=1.0,
    )


def _decode(config: dict[str, Any]) -> DecodeFacts:
    """Whole: 11.3 kB a pixel and 6.2 bytes a pixel and frame, gap 47 % (480p cells); tiles of 256 take 2 x
    the time.
    """
    share = config["base_dim"] / _REFERENCE_VAE_CHANNELS
    return DecodeFacts(
        bytes_per_pixel=11_281 * share,
        bytes_per_pixel_frame=6.17,
        gap_fraction=0.466,
        seconds_per_pixel_frame=56.2e-9 * share**2,
        tile_size=256,
        tiled_bytes_per_pixel_frame=18.0,
        tiled_time_factor=2.03,
    )


def _text(part: Part) -> TextFacts:
    """One encoder pass with float32 attention scores; not measured for UMT5, so by formula."""
    hidden, wide = int(part.config["d_model"]), int(part.config["d_ff"])
    heads, layers = int(part.config["num_heads"]), int(part.config["num_layers"])
    per_token = 8 * hidden + 6 * wide + 8 * heads * PROMPT_TOKENS
    embeddings = int(part.config["vocab_size"]) * hidden
    return TextFacts(
        tokens=PROMPT_TOKENS,
        bytes_per_token=per_token,
        gap_bytes=0.4 * per_token * PROMPT_TOKENS,
        launch_seconds=_LAUNCH_SECONDS_PER_ENCODER_LAYER * layers,
        flops=2.0 * max(0, part.elements - embeddings) * PROMPT_TOKENS,
    )


FAMILY = Family(
    name=NAME,
    pipelines=("WanPipeline",),
    components={
        "text_encoder": ComponentRule(
            "textEncoder", ("UMT5EncoderModel",), tied={"encoder.embed_tokens.weight": "shared.weight"}
        ),
        "transformer": ComponentRule(
            "transformer",
            ("WanTransformer3DModel",),
            block_paths=("blocks",),
            layers_key="num_layers",
            kept_float32=("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"),
        ),
        "vae": ComponentRule("vae", ("AutoencoderKLWan",)),
    },
    build=build,
)

WAN_T2V_14B = Inventory(
    pipeline="WanPipeline",
    parts=(
        Part(
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
        ),
        Part(
            name="transformer",
            class_name="WanTransformer3DModel",
            config={
                "patch_size": (1, 2, 2),
                "num_layers": 40,
                "num_attention_heads": 40,
                "attention_head_dim": 128,
                "ffn_dim": 13_824,
                "in_channels": 16,
                "out_channels": 16,
                "text_dim": 4096,
                "freq_dim": 256,
            },
            elements=14_288_491_584,
            float32_elements=29_184_000,
            blocks=(BlockGroup(path="blocks", count=40, elements=351_394_304, float32_elements=40_960),),
        ),
        Part(
            name="vae",
            class_name="AutoencoderKLWan",
            config={"base_dim": 96, "z_dim": 16, "temperal_downsample": (False, True, True)},
            elements=126_892_531,
        ),
    ),
)
"""Wan-AI/Wan2.1-T2V-14B-Diffusers: the published configs and the totals of the locked classes (checked by a
test).
"""
