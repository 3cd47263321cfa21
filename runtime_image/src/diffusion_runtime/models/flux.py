"""The FLUX.1 family: double- and single-stream blocks, CLIP and T5 encoders, the picture VAE.

Coefficients are fitted on the cells at 512 and 1024 pixels squared measured on one H200 (2026-11-23, torch
2.11, diffusers 0.42.1); text tokens join the stream and cost what image tokens cost. FLUX.1-dev is guided by
an embedding, so one pass a step. Config: the conversion of black-forest-labs' own parameters in diffusers
(`scripts/convert_flux_to_diffusers.py`), with the guidance embedding that dev has.
"""

from __future__ import annotations

from typing import Any

from diffusion_runtime.models.autoencoder_published import PICTURE_VAE
from diffusion_runtime.models.encoders import MATMUL_WORKSPACE_BYTES, t5_encoder
from diffusion_runtime.models.family import (
    COMPILED_LAUNCH_SECONDS_PER_BLOCK,
    STREAMABLE,
    ComponentRule,
    Family,
    component_facts,
)
from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.models.vaes import picture_decode
from diffusion_runtime.planning.documents import ModelRef, Shape
from diffusion_runtime.planning.facts import BlockGroup, DenoiseFacts, ForwardBytes, ModelFacts, SizeRule

NAME = "flux"
PROMPT_TOKENS = 512
"""Every prompt is padded to this."""
PACKED_LATENTS = 2
"""The pipeline packs 2 x 2 latents into a token; the config's own patch size is 1."""
DEFAULT_SHAPE = Shape(width=1024, height=1024, steps=28)
_REFERENCE_CHANNELS = 3072

_BYTES_PER_TOKEN_CHANNEL = 34.47
_COMPILED_BYTES_PER_TOKEN_CHANNEL = 26.86
_FIXED_BYTES = 6.7e6
_GAP_SHARE = 1.139
_COMPILED_GAP_SHARE = 0.984
_LAUNCH_SECONDS_PER_BLOCK = 1.176e-3
_ELEMENTWISE_SECONDS = 8.13e-11
_COMPILED_ELEMENTWISE_SECONDS = 2.92e-11


def build(inventory: Inventory, model: ModelRef, default_shape: Shape | None = None) -> ModelFacts:
    """Facts of a FLUX.1 pipeline. KeyError names a config key that is missing."""
    transformer, vae = inventory.part("transformer"), inventory.part("vae")
    pixels = PACKED_LATENTS * 2 ** (len(vae.config["block_out_channels"]) - 1)
    return ModelFacts(
        model=model,
        components=tuple(component_facts(part, FAMILY.components[part.name]) for part in inventory.parts),
        guided_by_default=False,
        default_shape=default_shape or DEFAULT_SHAPE,
        sizes=SizeRule(multiple=pixels),
        denoise=_denoise(transformer.config, pixels),
        decode=picture_decode(vae.config),
        text=t5_encoder(inventory.part("text_encoder_2"), PROMPT_TOKENS),
        correct_axes=("cfg", "ulysses", "ring", "tensor", "fsdp"),
        proven_axes=(),
        correct_dtypes=("bfloat16", "float32"),
        compile_proven=True,
        sources=(
            "elements: meta-device instantiation of the locked diffusers and transformers classes",
            "ulysses, ring and tensor: the class's own plans",
            "streaming: diffusers' group offloading, which the class supports; parity pending",
            "compiled blocks: the same latents as plain diffusers on the CPU (the parity suite)",
        ),
    )


def _denoise(config: dict[str, Any], token_pixels: int) -> DenoiseFacts:
    heads = int(config["num_attention_heads"])
    layers = int(config["num_layers"]) + int(config["num_single_layers"])
    channels = heads * int(config["attention_head_dim"])
    size, share = channels * layers, channels / _REFERENCE_CHANNELS
    fixed = MATMUL_WORKSPACE_BYTES + _FIXED_BYTES * share
    return DenoiseFacts(
        token_pixels=token_pixels,
        text_tokens=PROMPT_TOKENS,
        text_joins_attention=True,
        heads=heads,
        matmul_flops_per_token=2 * 12 * channels**2 * layers,
        attention_flops_per_pair=4 * size,
        eager=ForwardBytes(
            fixed_bytes=fixed,
            bytes_per_token=_BYTES_PER_TOKEN_CHANNEL * channels,
            gap_share=_GAP_SHARE,
        ),
        compiled=ForwardBytes(
            fixed_bytes=fixed,
            bytes_per_token=_COMPILED_BYTES_PER_TOKEN_CHANNEL * channels,
            gap_share=_COMPILED_GAP_SHARE,
        ),
        launch_seconds=_LAUNCH_SECONDS_PER_BLOCK * layers,
        compiled_launch_seconds=COMPILED_LAUNCH_SECONDS_PER_BLOCK * layers,
        elementwise_seconds_per_token=_ELEMENTWISE_SECONDS * size,
        compiled_elementwise_seconds_per_token=_COMPILED_ELEMENTWISE_SECONDS * size,
        tensor_sharded_fraction=0.723,  # of FLUX.1-dev's elements, by the class's own plan
    )


FAMILY = Family(
    name=NAME,
    pipelines=("FluxPipeline",),
    components={
        "text_encoder": ComponentRule("textEncoder", ("CLIPTextModel",)),
        "text_encoder_2": ComponentRule(
            "textEncoder", ("T5EncoderModel",), tied={"encoder.embed_tokens.weight": "shared.weight"}
        ),
        "transformer": ComponentRule(
            "transformer",
            ("FluxTransformer2DModel",),
            block_paths=("transformer_blocks", "single_transformer_blocks"),
            block_classes=("FluxTransformerBlock", "FluxSingleTransformerBlock"),
            layers_keys=("num_layers", "num_single_layers"),
            residencies=STREAMABLE,
        ),
        "vae": ComponentRule("vae", ("AutoencoderKL",)),
    },
    build=build,
)

FLUX_1_DEV = Inventory(
    pipeline="FluxPipeline",
    parts=(
        Part(
            name="text_encoder",
            class_name="CLIPTextModel",
            config={
                "vocab_size": 49_408,
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_hidden_layers": 12,
                "num_attention_heads": 12,
                "projection_dim": 768,
            },
            elements=123_060_480,
        ),
        Part(
            name="text_encoder_2",
            class_name="T5EncoderModel",
            config={
                "vocab_size": 32_128,
                "d_model": 4096,
                "d_kv": 64,
                "d_ff": 10_240,
                "num_layers": 24,
                "num_heads": 64,
                "feed_forward_proj": "gated-gelu",
                "tie_word_embeddings": False,
            },
            elements=4_762_310_656,
        ),
        Part(
            name="transformer",
            class_name="FluxTransformer2DModel",
            config={
                "patch_size": 1,
                "in_channels": 64,
                "num_layers": 19,
                "num_single_layers": 38,
                "attention_head_dim": 128,
                "num_attention_heads": 24,
                "joint_attention_dim": 4096,
                "pooled_projection_dim": 768,
                "guidance_embeds": True,
                "axes_dims_rope": (16, 56, 56),
            },
            elements=11_901_408_320,
            blocks=(
                BlockGroup(path="transformer_blocks", count=19, elements=339_831_296),
                BlockGroup(path="single_transformer_blocks", count=38, elements=141_591_808),
            ),
        ),
        PICTURE_VAE,
    ),
)
"""black-forest-labs/FLUX.1-dev: the published configs and the totals of the locked classes."""
