"""The Qwen-Image family: double-stream transformer, Qwen2.5-VL encoder, Qwen-Image VAE. The demo model is
one, tiny.

Coefficients are fitted on the cells at 512 and 1024 pixels squared measured on one H200 (2026-11-23, torch
2.11, diffusers 0.42.1) and scale with channels and layers. What is correct is claimed here with its source;
the parity suite decides later.
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

NAME = "qwen-image"
TEMPLATE_TOKENS = 34
PROMPT_TOKENS = 512
"""The pipeline's longest prompt (`max_sequence_length`)."""
TYPICAL_TEXT_TOKENS = 256
"""Text tokens of the measured cells; their own activations are small beside the image's."""
DEFAULT_SHAPE = Shape(width=1024, height=1024, steps=50)
_REFERENCE_VAE_CHANNELS = 96

# Measured on the 60 x 3072 transformer, so per channel (bytes) or per layer and channel (seconds).
_BYTES_PER_TOKEN_CHANNEL = 29.26
_COMPILED_BYTES_PER_TOKEN_CHANNEL = 20.99
_GAP_BYTES_PER_TOKEN_CHANNEL = 15.18
_COMPILED_GAP_BYTES_PER_TOKEN_CHANNEL = 15.03
_FIXED_BYTES_PER_LAYER_CHANNEL = 217.0
_LAUNCH_SECONDS_PER_BLOCK = 1.448e-3
_ELEMENTWISE_SECONDS = 9.0e-11
_COMPILED_ELEMENTWISE_SECONDS = 4.18e-11
_LAUNCH_SECONDS_PER_ENCODER_LAYER = 0.775e-3


def build(inventory: Inventory, model: ModelRef, default_shape: Shape | None = None) -> ModelFacts:
    """Facts of a Qwen-Image pipeline. KeyError names a config key that is missing."""
    transformer, vae = inventory.part("transformer"), inventory.part("vae")
    return ModelFacts(
        model=model,
        components=tuple(_component(part) for part in inventory.parts),
        guided_by_default=True,
        default_shape=default_shape or DEFAULT_SHAPE,
        sizes=SizeRule(multiple=pixels_per_token(inventory)),
        denoise=_denoise(transformer.config, pixels_per_token(inventory)),
        decode=_decode(vae.config),
        text=_text(inventory.part("text_encoder")),
        correct_axes=("cfg", "ulysses", "ring", "tensor", "fsdp"),
        proven_axes=("cfg",),
        correct_dtypes=("bfloat16", "float32"),
        # Measured faster and smaller compiled, but the engine draws eagerly: turn on when it compiles.
        compile_proven=False,
        sources=(
            "elements: meta-device instantiation of the locked diffusers and transformers classes",
            "ulysses 2, ring 2, tensor 2, FSDP2 and group offload ran on 2 x H200, 2026-11-23",
            "CFG parallel 1.97 x measured on 2 x H200; FSDP stays off by default, as the cookbook advises",
        ),
    )


def pixels_per_token(inventory: Inventory) -> int:
    """Pixels per token side: VAE compression x patch size; every picture side is a multiple of it."""
    compression = 2 ** len(inventory.part("vae").config["temperal_downsample"])
    return int(compression * inventory.part("transformer").config["patch_size"])


def _component(part: Part) -> ComponentFacts:
    rule = FAMILY.components[part.name]
    transformer = rule.kind == "transformer"
    return ComponentFacts(
        name=part.name,
        kind=rule.kind,
        class_name=part.class_name,
        elements=part.elements,
        float32_elements=part.float32_elements,
        blocks=part.blocks,
        stored_bytes=part.stored_bytes,
        correct_residencies=("resident", "component", "layerwise")
        if transformer
        else ("resident", "component"),
    )


def _denoise(config: dict[str, Any], token_pixels: int) -> DenoiseFacts:
    heads, layers = int(config["num_attention_heads"]), int(config["num_layers"])
    channels = heads * int(config["attention_head_dim"])
    size = channels * layers
    return DenoiseFacts(
        token_pixels=token_pixels,
        text_tokens=TYPICAL_TEXT_TOKENS,
        text_joins_attention=True,
        heads=heads,
        matmul_flops_per_token=2 * 12 * channels**2 * layers,
        attention_flops_per_pair=4 * size,
        fixed_bytes=_FIXED_BYTES_PER_LAYER_CHANNEL * size,
        compiled_fixed_bytes=_FIXED_BYTES_PER_LAYER_CHANNEL * size,
        bytes_per_token=_BYTES_PER_TOKEN_CHANNEL * channels,
        compiled_bytes_per_token=_COMPILED_BYTES_PER_TOKEN_CHANNEL * channels,
        gap_bytes_per_token=_GAP_BYTES_PER_TOKEN_CHANNEL * channels,
        compiled_gap_bytes_per_token=_COMPILED_GAP_BYTES_PER_TOKEN_CHANNEL * channels,
        launch_seconds=_LAUNCH_SECONDS_PER_BLOCK * layers,
        elementwise_seconds_per_token=_ELEMENTWISE_SECONDS * size,
        compiled_elementwise_seconds_per_token=_COMPILED_ELEMENTWISE_SECONDS * size,
        tensor_sharded_fraction=0.667,
    )


def _decode(config: dict[str, Any]) -> DecodeFacts:
    """Whole: 4226 bytes a pixel; in tiles of 256: one tile plus about 12 bytes a pixel, 6.3 x the time."""
    share = config["base_dim"] / _REFERENCE_VAE_CHANNELS
    return DecodeFacts(
        fixed_bytes=4.3e6 * share,
        bytes_per_pixel=4226 * share,
        gap_fixed_bytes=334e6 * share,
        gap_fraction=0.0465,
        seconds_fixed=4.5e-3,
        seconds_per_pixel_frame=59.3e-9 * share**2,
        tile_size=256,
        tiled_bytes_per_pixel_frame=12.0,
        tiled_time_factor=6.3,
    )


def _text(part: Part) -> TextFacts:
    """Hidden states of every layer are kept, logits are computed; not measured for this encoder, so by
    formula.
    """
    config = part.config.get("text_config", part.config)
    hidden, layers = int(config["hidden_size"]), int(config["num_hidden_layers"])
    tokens = PROMPT_TOKENS + TEMPLATE_TOKENS
    per_token = 2 * ((layers + 1) * hidden + 4 * int(config["intermediate_size"]) + int(config["vocab_size"]))
    return TextFacts(
        tokens=tokens,
        bytes_per_token=per_token,
        gap_bytes=0.4 * per_token * tokens,
        launch_seconds=_LAUNCH_SECONDS_PER_ENCODER_LAYER * layers,
        flops=2.0 * part.elements * tokens,
    )


FAMILY = Family(
    name=NAME,
    pipelines=("QwenImagePipeline",),
    components={
        "text_encoder": ComponentRule("textEncoder", ("Qwen2_5_VLForConditionalGeneration",)),
        "transformer": ComponentRule(
            "transformer",
            ("QwenImageTransformer2DModel",),
            block_paths=("transformer_blocks",),
            layers_key="num_layers",
        ),
        "vae": ComponentRule("vae", ("AutoencoderKLQwenImage",)),
    },
    build=build,
)

QWEN_IMAGE = Inventory(
    pipeline="QwenImagePipeline",
    parts=(
        Part(
            name="text_encoder",
            class_name="Qwen2_5_VLForConditionalGeneration",
            config={
                "vocab_size": 152_064,
                "hidden_size": 3584,
                "intermediate_size": 18_944,
                "num_hidden_layers": 28,
                "num_attention_heads": 28,
                "num_key_value_heads": 4,
                "tie_word_embeddings": False,
            },
            elements=8_292_166_656,
        ),
        Part(
            name="transformer",
            class_name="QwenImageTransformer2DModel",
            config={
                "patch_size": 2,
                "in_channels": 64,
                "out_channels": 16,
                "num_layers": 60,
                "attention_head_dim": 128,
                "num_attention_heads": 24,
                "joint_attention_dim": 3584,
                "axes_dims_rope": (16, 56, 56),
            },
            elements=20_430_401_088,
            blocks=(BlockGroup(path="transformer_blocks", count=60, elements=339_831_296),),
        ),
        Part(
            name="vae",
            class_name="AutoencoderKLQwenImage",
            config={"base_dim": 96, "z_dim": 16, "temperal_downsample": (False, True, True)},
            elements=126_892_531,
        ),
    ),
)
"""Qwen/Qwen-Image: the published configs and the totals of the locked classes (checked by a test)."""
