"""The Qwen-Image family: double-stream transformer, Qwen2.5-VL encoder, Qwen-Image VAE. The demo model is
one, tiny.

Coefficients are fitted on the cells at 512 and 1024 pixels squared measured on one H200 (2026-11-23, torch
2.11, diffusers 0.42.1) and scale with channels and layers. What is correct is claimed here with its source;
the parity suite decides later. Published configs: the classes' own defaults, which the model card's files
repeat.
"""

from __future__ import annotations

from typing import Any

from diffusion_runtime.models.encoders import MATMUL_WORKSPACE_BYTES, causal_encoder
from diffusion_runtime.models.family import (
    COMPILED_LAUNCH_SECONDS_PER_BLOCK,
    STREAMABLE,
    ComponentRule,
    Family,
    component_facts,
)
from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.models.vaes import causal_picture_decode
from diffusion_runtime.planning.documents import ModelRef, Shape
from diffusion_runtime.planning.facts import (
    BlockGroup,
    DenoiseFacts,
    ForwardBytes,
    ModelFacts,
    SizeRule,
)

NAME = "qwen-image"
EDIT_PIPELINES = ("QwenImageEditPipeline", "QwenImageEditPlusPipeline")
TEMPLATE_TOKENS = 34
PROMPT_TOKENS = 512
"""The pipeline's longest prompt (`max_sequence_length`)."""
TYPICAL_TEXT_TOKENS = 256
"""Text tokens of the measured cells; their own activations are small beside the image's."""
REFERENCE_PIXELS = 1024**2
"""The editing pipelines scale a reference picture to this area."""
VISION_PATCH_PIXELS = 28
"""Side of what one token of the encoder sees of a reference picture."""
DEFAULT_SHAPE = Shape(width=1024, height=1024, steps=50)
_REFERENCE_CHANNELS = 3072

# Measured on the 60 x 3072 transformer, so per channel (bytes) or per layer and channel (seconds).
_BYTES_PER_TOKEN_CHANNEL = 29.92
_COMPILED_BYTES_PER_TOKEN_CHANNEL = 21.46
_TEXT_TOKEN_WEIGHT = 0.628
_GAP_SHARE = 0.543
_COMPILED_GAP_SHARE = 0.716
_FIXED_BYTES = 8.3e6
_COMPILED_FIXED_BYTES = 28.2e6
_LAUNCH_SECONDS_PER_BLOCK = 1.448e-3
_ELEMENTWISE_SECONDS = 9.0e-11
_COMPILED_ELEMENTWISE_SECONDS = 4.18e-11


def build(inventory: Inventory, model: ModelRef, default_shape: Shape | None = None) -> ModelFacts:
    """Facts of a Qwen-Image pipeline. KeyError names a config key that is missing."""
    transformer, vae = inventory.part("transformer"), inventory.part("vae")
    edits = inventory.pipeline in EDIT_PIPELINES
    seen = round(REFERENCE_PIXELS / VISION_PATCH_PIXELS**2) if edits else 0
    token_pixels = pixels_per_token(inventory)
    return ModelFacts(
        model=model,
        components=tuple(component_facts(part, FAMILY.components[part.name]) for part in inventory.parts),
        guided_by_default=True,
        default_shape=default_shape or DEFAULT_SHAPE,
        sizes=SizeRule(multiple=token_pixels),
        denoise=_denoise(
            transformer.config,
            token_pixels,
            text_tokens=TYPICAL_TEXT_TOKENS + seen,
            condition_tokens=REFERENCE_PIXELS // token_pixels**2 if edits else 0,
        ),
        decode=causal_picture_decode(vae.config),
        text=causal_encoder(
            inventory.part("text_encoder"), PROMPT_TOKENS + TEMPLATE_TOKENS + seen, makes_logits=True
        ),
        correct_axes=("cfg", "ulysses", "ring", "tensor", "fsdp"),
        proven_axes=("cfg",),
        correct_dtypes=("bfloat16", "float32"),
        compile_proven=True,
        sources=(
            "elements: meta-device instantiation of the locked diffusers and transformers classes",
            "ulysses 2, ring 2, tensor 2, FSDP2 and group offload ran on 2 x H200, 2026-11-23",
            "compiled blocks: the same latents as eager ones in every layout and residency (tests/engine), "
            "138.9 instead of 179 ms a forward on one H200",
            "CFG parallel 1.97 x measured on 2 x H200; FSDP stays off by default, as the cookbook advises",
        ),
        notes=("One reference picture is planned for; more of them take more.",) if edits else (),
    )


def pixels_per_token(inventory: Inventory) -> int:
    """Pixels per token side: VAE compression x patch size; every picture side is a multiple of it."""
    compression = 2 ** len(inventory.part("vae").config["temperal_downsample"])
    return int(compression * inventory.part("transformer").config["patch_size"])


def _denoise(
    config: dict[str, Any], token_pixels: int, text_tokens: int, condition_tokens: int
) -> DenoiseFacts:
    heads, layers = int(config["num_attention_heads"]), int(config["num_layers"])
    channels = heads * int(config["attention_head_dim"])
    size, share = channels * layers, channels / _REFERENCE_CHANNELS
    return DenoiseFacts(
        token_pixels=token_pixels,
        text_tokens=text_tokens,
        text_joins_attention=True,
        text_token_weight=_TEXT_TOKEN_WEIGHT,
        condition_tokens=condition_tokens,
        heads=heads,
        matmul_flops_per_token=2 * 12 * channels**2 * layers,
        attention_flops_per_pair=4 * size,
        eager=ForwardBytes(
            fixed_bytes=MATMUL_WORKSPACE_BYTES + _FIXED_BYTES * share,
            bytes_per_token=_BYTES_PER_TOKEN_CHANNEL * channels,
            gap_share=_GAP_SHARE,
        ),
        compiled=ForwardBytes(
            fixed_bytes=MATMUL_WORKSPACE_BYTES + _COMPILED_FIXED_BYTES * share,
            bytes_per_token=_COMPILED_BYTES_PER_TOKEN_CHANNEL * channels,
            gap_share=_COMPILED_GAP_SHARE,
        ),
        launch_seconds=_LAUNCH_SECONDS_PER_BLOCK * layers,
        compiled_launch_seconds=COMPILED_LAUNCH_SECONDS_PER_BLOCK * layers,
        elementwise_seconds_per_token=_ELEMENTWISE_SECONDS * size,
        compiled_elementwise_seconds_per_token=_COMPILED_ELEMENTWISE_SECONDS * size,
        tensor_sharded_fraction=0.667,
    )


FAMILY = Family(
    name=NAME,
    pipelines=("QwenImagePipeline", *EDIT_PIPELINES),
    components={
        "text_encoder": ComponentRule("textEncoder", ("Qwen2_5_VLForConditionalGeneration",)),
        "transformer": ComponentRule(
            "transformer",
            ("QwenImageTransformer2DModel",),
            block_paths=("transformer_blocks",),
            block_classes=("QwenImageTransformerBlock",),
            layers_keys=("num_layers",),
            residencies=STREAMABLE,
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

QWEN_IMAGE_EDIT = QWEN_IMAGE.model_copy(update={"pipeline": "QwenImageEditPipeline"})
"""Qwen/Qwen-Image-Edit: the same components with the same configs; the pipeline adds a reference picture."""
