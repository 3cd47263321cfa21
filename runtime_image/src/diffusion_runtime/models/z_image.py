"""The Z-Image family: single-stream transformer, Qwen3-4B encoder, the picture VAE of FLUX.1.

Coefficients are fitted on the cells at 512 and 1024 pixels squared measured on one H200 (2026-11-23, torch
2.11, diffusers 0.42.1); text tokens run in the same stream and cost what image tokens cost. The pipeline runs
both guidance passes in one batch. Sequence parallelism is not offered (the class has no plan for it), nor is
streaming: the cookbook advises to keep these 11.5 GiB resident. Config: the transformer's own defaults,
repeated by public copies of Z-Image-Turbo's config.json.
"""

from __future__ import annotations

from typing import Any

from diffusion_runtime.models.autoencoder_published import PICTURE_VAE
from diffusion_runtime.models.encoders import causal_encoder
from diffusion_runtime.models.family import (
    COMPILED_LAUNCH_SECONDS_PER_BLOCK,
    ComponentRule,
    Family,
    component_facts,
)
from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.models.vaes import picture_decode
from diffusion_runtime.planning.documents import ModelRef, Shape
from diffusion_runtime.planning.facts import (
    BlockGroup,
    ComponentFacts,
    DenoiseFacts,
    ForwardBytes,
    ModelFacts,
    SizeRule,
)

NAME = "z-image"
PROMPT_TOKENS = 512
TYPICAL_TEXT_TOKENS = 128
DEFAULT_SHAPE = Shape(width=1024, height=1024, steps=50)
TURBO_SHAPE = Shape(width=1024, height=1024, steps=9)
_ROTARY_BYTES = 256
_REFERENCE_CHANNELS = 3840

_BYTES_PER_TOKEN_CHANNEL = 31.77
_COMPILED_BYTES_PER_TOKEN_CHANNEL = 20.82
_FIXED_BYTES = 142.7e6
EXPANDED_GAP = 0.15
"""What is left of gaps since segments expand: 13.94 and 13.35 GB end to end on an H100, compiled."""
_GAP_FIXED_BYTES = 342.7e6 * EXPANDED_GAP
_GAP_SHARE = 1.048 * EXPANDED_GAP
_COMPILED_GAP_SHARE = 1.09 * EXPANDED_GAP
_LAUNCH_SECONDS_PER_BLOCK = 1.528e-3
_ELEMENTWISE_SECONDS = 1.244e-10
_COMPILED_ELEMENTWISE_SECONDS = 3.19e-11


def build(inventory: Inventory, model: ModelRef, default_shape: Shape | None = None) -> ModelFacts:
    """Facts of a Z-Image pipeline. KeyError names a config key that is missing."""
    transformer, vae = inventory.part("transformer"), inventory.part("vae")
    compression = 2 ** (len(vae.config["block_out_channels"]) - 1)
    pixels = compression * int(transformer.config["all_patch_size"][0])
    return ModelFacts(
        model=model,
        components=tuple(_component(part) for part in inventory.parts),
        guided_by_default=True,
        default_shape=default_shape or DEFAULT_SHAPE,
        sizes=SizeRule(multiple=pixels),
        denoise=_denoise(transformer.config, pixels),
        decode=picture_decode(vae.config),
        text=causal_encoder(inventory.part("text_encoder"), PROMPT_TOKENS, makes_logits=False),
        correct_axes=("cfg", "fsdp"),
        proven_axes=(),
        correct_dtypes=("bfloat16", "float32"),
        compile_proven=True,
        sources=(
            "elements: meta-device instantiation of the locked diffusers and transformers classes",
            "the cookbook found one GPU without offload faster than FSDP and sequence parallelism",
            "compiled blocks: the same latents as plain diffusers on the CPU (the parity suite)",
        ),
    )


def turbo(inventory: Inventory, model: ModelRef, default_shape: Shape | None = None) -> ModelFacts:
    """Facts of Z-Image-Turbo: the same weights' sizes, few steps, no guidance."""
    facts = build(inventory, model, default_shape or TURBO_SHAPE)
    return facts.model_copy(update={"guided_by_default": False})


def _component(part: Part) -> ComponentFacts:
    rule = FAMILY.components[part.name]
    return component_facts(part, rule, buffer_bytes=_ROTARY_BYTES if rule.kind == "textEncoder" else 0)


def _denoise(config: dict[str, Any], token_pixels: int) -> DenoiseFacts:
    channels, layers = int(config["dim"]), int(config["n_layers"]) + int(config["n_refiner_layers"])
    wide = channels // 3 * 8
    size, share = channels * layers, channels / _REFERENCE_CHANNELS
    blocks = layers + int(config["n_refiner_layers"])
    return DenoiseFacts(
        token_pixels=token_pixels,
        text_tokens=TYPICAL_TEXT_TOKENS,
        text_joins_attention=True,
        guidance_in_one_batch=True,
        heads=int(config["n_heads"]),
        matmul_flops_per_token=2 * (4 * channels**2 + 3 * channels * wide) * layers,
        attention_flops_per_pair=4 * size,
        eager=ForwardBytes(
            fixed_bytes=_FIXED_BYTES * share,
            bytes_per_token=_BYTES_PER_TOKEN_CHANNEL * channels,
            gap_fixed_bytes=_GAP_FIXED_BYTES * share,
            gap_share=_GAP_SHARE,
        ),
        compiled=ForwardBytes(
            fixed_bytes=_FIXED_BYTES * share,
            bytes_per_token=_COMPILED_BYTES_PER_TOKEN_CHANNEL * channels,
            gap_fixed_bytes=_GAP_FIXED_BYTES * share,
            gap_share=_COMPILED_GAP_SHARE,
        ),
        launch_seconds=_LAUNCH_SECONDS_PER_BLOCK * blocks,
        compiled_launch_seconds=COMPILED_LAUNCH_SECONDS_PER_BLOCK * blocks,
        elementwise_seconds_per_token=_ELEMENTWISE_SECONDS * size,
        compiled_elementwise_seconds_per_token=_COMPILED_ELEMENTWISE_SECONDS * size,
    )


FAMILY = Family(
    name=NAME,
    pipelines=("ZImagePipeline",),
    components={
        "text_encoder": ComponentRule("textEncoder", ("Qwen3Model", "Qwen3ForCausalLM")),
        "transformer": ComponentRule(
            "transformer",
            ("ZImageTransformer2DModel",),
            block_paths=("noise_refiner", "context_refiner", "layers"),
            block_classes=("ZImageTransformerBlock",),
            layers_keys=("n_refiner_layers", "n_refiner_layers", "n_layers"),
        ),
        "vae": ComponentRule("vae", ("AutoencoderKL",)),
    },
    build=build,
)

Z_IMAGE = Inventory(
    pipeline="ZImagePipeline",
    parts=(
        Part(
            name="text_encoder",
            class_name="Qwen3Model",
            config={
                "vocab_size": 151_936,
                "hidden_size": 2560,
                "intermediate_size": 9728,
                "num_hidden_layers": 36,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "tie_word_embeddings": True,
            },
            elements=4_022_468_096,
        ),
        Part(
            name="transformer",
            class_name="ZImageTransformer2DModel",
            config={
                "all_patch_size": (2,),
                "all_f_patch_size": (1,),
                "in_channels": 16,
                "dim": 3840,
                "n_layers": 30,
                "n_refiner_layers": 2,
                "n_heads": 30,
                "n_kv_heads": 30,
                "cap_feat_dim": 2560,
                "axes_dims": (32, 48, 48),
                "axes_lens": (1536, 512, 512),
            },
            elements=6_154_908_736,
            blocks=(
                BlockGroup(path="noise_refiner", count=2, elements=180_910_336),
                BlockGroup(path="context_refiner", count=2, elements=176_962_816),
                BlockGroup(path="layers", count=30, elements=180_910_336),
            ),
        ),
        PICTURE_VAE,
    ),
)
"""Tongyi-MAI/Z-Image and Z-Image-Turbo: the published configs and the totals of the locked classes."""
