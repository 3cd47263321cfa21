"""The Wan 2.1 and 2.2 families: one transformer or two experts, UMT5-XXL encoder, Wan VAE.

Coefficients are fitted on the 480p cells of 81 frames of the 1.3B and 14B models measured on one H200
(2026-11-23, torch 2.11, diffusers 0.42.1). A forward peaks in attention (22.24 bytes a token and channel) or
in its feed-forward part (8.70 bytes a channel, 4 a hidden unit); compiled, the hidden units are written once.
Tensor parallelism is not offered: the class has no plan for it. The VAE stays in float32, as its publisher
runs it.

Wan 2.2's 5B model (TI2V) has a VAE that packs pixels and a time for every token. What these cost is counted
from the classes and not measured; it is drawn from a prompt alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from diffusion_runtime.models.encoders import t5_encoder
from diffusion_runtime.models.family import (
    COMPILED_LAUNCH_SECONDS_PER_BLOCK,
    STREAMABLE,
    ComponentRule,
    Family,
    component_facts,
)
from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.models.vaes import causal_video_decode, packed_pixels
from diffusion_runtime.planning.documents import ModelRef, Shape
from diffusion_runtime.planning.facts import ComponentFacts, DenoiseFacts, ForwardBytes, ModelFacts, SizeRule

NAME = "wan"
PROMPT_TOKENS = 512
FRAMES_PER_LATENT = 4
ROPE_POSITIONS = 1024
DEFAULT_SHAPE = Shape(width=832, height=480, frames=81, steps=50)
SHAPE_720P = Shape(width=1280, height=720, frames=81, steps=50)
SHAPE_5B = Shape(width=1280, height=704, frames=121, steps=50)

_ATTENTION_BYTES_PER_CHANNEL = 22.24
_FFN_BYTES_PER_CHANNEL = 8.70
_FFN_BYTES_PER_HIDDEN = 4
_COMPILED_BYTES_PER_CHANNEL = 7.05
_COMPILED_BYTES_PER_HIDDEN = 2
_FIXED_BYTES = 41.4e6
_FIXED_BYTES_PER_CHANNEL = 16_700.0
_GAP_SHARE = 0.551
_COMPILED_GAP_SHARE = 0.713
_LAUNCH_SECONDS_PER_BLOCK = 1.2e-3
_TOKEN_TIMES_BYTES_PER_CHANNEL = 62
"""With a time for every token: 14 bytes of its modulation in bfloat16 for the whole forward; a block makes it
float32, 24 bytes, and adds its own, 24 more."""
_TOKEN_TIMES_MATMULS = 7
"""Squares of the channels that a token's time is multiplied by, once a forward."""
_ELEMENTWISE_SECONDS = 1.04e-10
_COMPILED_ELEMENTWISE_SECONDS = 2.54e-11


def build(inventory: Inventory, model: ModelRef, default_shape: Shape | None = None) -> ModelFacts:
    """Facts of a Wan pipeline. KeyError names a config key that is missing."""
    transformer, vae = inventory.part("transformer"), inventory.part("vae")
    packed = packed_pixels(vae.config)
    pixels = 2 ** len(vae.config["temperal_downsample"]) * packed * int(transformer.config["patch_size"][1])
    names = [part.name for part in inventory.parts]
    return ModelFacts(
        model=model,
        components=tuple(_component(part) for part in inventory.parts),
        guided_by_default=True,
        default_shape=default_shape or DEFAULT_SHAPE,
        sizes=SizeRule(multiple=pixels, frame_multiple=FRAMES_PER_LATENT),
        denoise=denoise_facts(transformer.config, pixels, token_times=packed > 1),
        decode=causal_video_decode(vae.config),
        text=t5_encoder(inventory.part("text_encoder"), PROMPT_TOKENS),
        correct_axes=("cfg", "ulysses", "ring", "fsdp"),
        proven_axes=("cfg", "fsdp"),
        correct_dtypes=("bfloat16", "float32"),
        compile_proven=True,
        unchecked=("image_encoder",) if "image_encoder" in names else (),
        sources=(
            "elements: meta-device instantiation of the locked diffusers and transformers classes",
            "FSDP and CFG parallel: the cookbook's validated multi-GPU Wan deployments",
            "ulysses 2 ran on 2 x H200, 2026-11-23; ring by the cookbook, parity pending",
            "compiled blocks: the same latents as plain diffusers on the CPU (the parity suite)",
        ),
        notes=_notes(names, packed),
    )


def _notes(names: Iterable[str], packed: int) -> tuple[str, ...]:
    """What a plan should warn of."""
    notes = ["Two experts take turns between steps; both are loaded."] if "transformer_2" in names else []
    if packed > 1:
        notes.append(
            "A time for every token and a VAE that packs pixels were counted, not measured on a GPU."
        )
    return tuple(notes)


def _component(part: Part) -> ComponentFacts:
    rule = FAMILY.components[part.name]
    rope = (
        ROPE_POSITIONS * int(part.config["attention_head_dim"]) * 2 * 4 if rule.kind == "transformer" else 0
    )
    return component_facts(part, rule, buffer_bytes=rope)


def denoise_facts(config: dict[str, Any], token_pixels: int, *, token_times: bool = False) -> DenoiseFacts:
    """One forward of a Wan transformer of these heads, layers and feed-forward width.

    `token_times`: every token has a time of its own, as in Wan 2.2's 5B model.
    """
    heads, layers = int(config["num_attention_heads"]), int(config["num_layers"])
    channels, wide = heads * int(config["attention_head_dim"]), int(config["ffn_dim"])
    fixed = _FIXED_BYTES + _FIXED_BYTES_PER_CHANNEL * channels
    attention = _ATTENTION_BYTES_PER_CHANNEL * channels
    feed_forward = _FFN_BYTES_PER_CHANNEL * channels + _FFN_BYTES_PER_HIDDEN * wide
    compiled = _COMPILED_BYTES_PER_CHANNEL * channels + _COMPILED_BYTES_PER_HIDDEN * wide
    times = _TOKEN_TIMES_BYTES_PER_CHANNEL * channels if token_times else 0
    once = _TOKEN_TIMES_MATMULS * channels**2 if token_times else 0
    return DenoiseFacts(
        token_pixels=token_pixels,
        token_frames=FRAMES_PER_LATENT,
        text_tokens=PROMPT_TOKENS,
        text_joins_attention=False,
        heads=heads,
        matmul_flops_per_token=2 * (6 * channels**2 + 2 * channels * wide) * layers + 2 * once,
        attention_flops_per_pair=4 * channels * layers,
        eager=ForwardBytes(
            fixed_bytes=fixed, bytes_per_token=max(attention, feed_forward) + times, gap_share=_GAP_SHARE
        ),
        compiled=ForwardBytes(
            fixed_bytes=fixed, bytes_per_token=compiled + times, gap_share=_COMPILED_GAP_SHARE
        ),
        launch_seconds=_LAUNCH_SECONDS_PER_BLOCK * layers,
        compiled_launch_seconds=COMPILED_LAUNCH_SECONDS_PER_BLOCK * layers,
        elementwise_seconds_per_token=_ELEMENTWISE_SECONDS * channels * layers,
        compiled_elementwise_seconds_per_token=_COMPILED_ELEMENTWISE_SECONDS * channels * layers,
        tensor_sharded_fraction=1.0,
    )


def _transformer(expert: int, *, optional: bool = False) -> ComponentRule:
    return ComponentRule(
        "transformer",
        ("WanTransformer3DModel",),
        block_paths=("blocks",),
        block_classes=("WanTransformerBlock",),
        layers_keys=("num_layers",),
        kept_float32=("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"),
        residencies=STREAMABLE,
        expert=expert,
        optional=optional,
    )


FAMILY = Family(
    name=NAME,
    pipelines=("WanPipeline", "WanImageToVideoPipeline"),
    components={
        "text_encoder": ComponentRule(
            "textEncoder", ("UMT5EncoderModel",), tied={"encoder.embed_tokens.weight": "shared.weight"}
        ),
        "image_encoder": ComponentRule(
            "imageEncoder", ("CLIPVisionModel", "CLIPVisionModelWithProjection"), optional=True
        ),
        "transformer": _transformer(1),
        "transformer_2": _transformer(2, optional=True),
        "vae": ComponentRule("vae", ("AutoencoderKLWan",), default_dtype="float32"),
    },
    build=build,
)
