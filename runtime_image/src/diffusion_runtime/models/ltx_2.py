"""The LTX-2 family: one transformer for picture and sound, Gemma 3 with connectors, two VAEs, vocoder.

Nothing of it was measured here: activations take Wan's coefficients at this width, decoding counts its last
block's tensors, and times follow; the plan says so. The pipeline runs both guidance passes in one batch.
Configs: diffusers' own conversion script for version 2.0 (`scripts/convert_ltx2_to_diffusers.py`); they are
the classes' defaults. The latent upsampler, which the repository holds beside the pipeline, is for clips that
are drawn in two stages.
"""

from __future__ import annotations

from typing import Any

from diffusion_runtime.models.encoders import causal_encoder
from diffusion_runtime.models.family import (
    COMPILED_LAUNCH_SECONDS_PER_BLOCK,
    STREAMABLE,
    ComponentRule,
    Family,
    component_facts,
)
from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.models.vaes import TILE_SIZES
from diffusion_runtime.planning.documents import ModelRef, Shape
from diffusion_runtime.planning.facts import (
    BlockGroup,
    DecodeFacts,
    DenoiseFacts,
    ForwardBytes,
    ModelFacts,
    SizeRule,
)

NAME = "ltx-2"
PROMPT_TOKENS = 1024
FRAMES_PER_LATENT = 8
TOKEN_PIXELS = 32
DEFAULT_SHAPE = Shape(width=768, height=512, frames=121, steps=30)
_BYTES_PER_CHANNEL = 8.70 + 4 * 4
"""Wan's feed-forward peak for a feed-forward part four times as wide as the stream."""
_COMPILED_BYTES_PER_CHANNEL = 7.05 + 2 * 4
_FIXED_BYTES = 41.4e6
_FIXED_BYTES_PER_CHANNEL = 16_700.0
_LAUNCH_SECONDS_PER_BLOCK = 3.0e-3
"""Six attentions and two feed-forward parts a block, where Wan's 1.2 ms are two and one."""
_LAST_BLOCK_TENSORS = 10
_ROTARY_BYTES = 34_820


def build(inventory: Inventory, model: ModelRef, default_shape: Shape | None = None) -> ModelFacts:
    """Facts of an LTX-2 pipeline. KeyError names a config key that is missing."""
    return ModelFacts(
        model=model,
        components=tuple(
            component_facts(
                part,
                FAMILY.components[part.name],
                buffer_bytes=_ROTARY_BYTES if part.name == "text_encoder" else 0,
            )
            for part in inventory.parts
        ),
        guided_by_default=True,
        default_shape=default_shape or DEFAULT_SHAPE,
        sizes=SizeRule(multiple=TOKEN_PIXELS, frame_multiple=FRAMES_PER_LATENT),
        denoise=_denoise(inventory.part("transformer").config),
        decode=_decode(inventory.part("vae").config),
        text=causal_encoder(inventory.part("text_encoder"), PROMPT_TOKENS, makes_logits=True),
        correct_axes=("cfg", "fsdp"),
        proven_axes=(),
        correct_dtypes=("bfloat16", "float32"),
        compile_proven=True,
        sources=(
            "elements: meta-device instantiation of the locked diffusers and transformers classes",
            "cfg and fsdp: parity with plain diffusers; ulysses and ring are not offered, because the class "
            "splits the mask of the prompt, which diffusers does wrongly",
            "streaming: diffusers' group offloading, which the class supports; parity pending",
            "compiled blocks: the same latents as plain diffusers on the CPU (the parity suite)",
        ),
        notes=("Activations and times of LTX-2 were not measured: they follow from Wan's by formula.",),
    )


def _denoise(config: dict[str, Any]) -> DenoiseFacts:
    heads, layers = int(config["num_attention_heads"]), int(config["num_layers"])
    channels = heads * int(config["attention_head_dim"])
    sound = int(config["audio_num_attention_heads"]) * int(config["audio_attention_head_dim"])
    fixed = _FIXED_BYTES + _FIXED_BYTES_PER_CHANNEL * channels
    return DenoiseFacts(
        token_pixels=TOKEN_PIXELS,
        token_frames=FRAMES_PER_LATENT,
        text_tokens=PROMPT_TOKENS,
        text_joins_attention=False,
        guidance_in_one_batch=True,
        heads=heads,
        # Self attention, text and sound attention, feed-forward part; sound tokens are few beside these.
        matmul_flops_per_token=2 * (14 * channels**2 + 4 * channels * sound) * layers,
        attention_flops_per_pair=4 * channels * layers,
        eager=ForwardBytes(fixed_bytes=fixed, bytes_per_token=_BYTES_PER_CHANNEL * channels, gap_share=0.551),
        compiled=ForwardBytes(
            fixed_bytes=fixed, bytes_per_token=_COMPILED_BYTES_PER_CHANNEL * channels, gap_share=0.713
        ),
        launch_seconds=_LAUNCH_SECONDS_PER_BLOCK * layers,
        compiled_launch_seconds=COMPILED_LAUNCH_SECONDS_PER_BLOCK * layers,
        elementwise_seconds_per_token=1.04e-10 * channels * layers,
        compiled_elementwise_seconds_per_token=2.54e-11 * channels * layers,
    )


def _decode(config: dict[str, Any]) -> DecodeFacts:
    """All frames together; the widest tensors have half of the first decoder width at 1/16 of the pixels."""
    last = int(config["decoder_block_out_channels"][0]) // 2
    return DecodeFacts(
        bytes_per_pixel=0.0,
        bytes_per_pixel_frame=_LAST_BLOCK_TENSORS * 2 * last / int(config["patch_size"]) ** 2,
        gap_fraction=0.466,
        tiled_gap_fraction=0.466,
        seconds_per_pixel_frame=10.0e-9,
        launch_seconds=12.0e-3,
        frames_at_once=10_000,
        tile_size=512,
        tile_sizes=TILE_SIZES[2:],
    )


FAMILY = Family(
    name=NAME,
    pipelines=("LTX2Pipeline",),
    components={
        "text_encoder": ComponentRule("textEncoder", ("Gemma3ForConditionalGeneration",)),
        "connectors": ComponentRule("textEncoder", ("LTX2TextConnectors",)),
        "transformer": ComponentRule(
            "transformer",
            ("LTX2VideoTransformer3DModel",),
            block_paths=("transformer_blocks",),
            block_classes=("LTX2VideoTransformerBlock",),
            layers_keys=("num_layers",),
            residencies=STREAMABLE,
        ),
        "vae": ComponentRule("vae", ("AutoencoderKLLTX2Video",)),
        "audio_vae": ComponentRule("vae", ("AutoencoderKLLTX2Audio",)),
        "vocoder": ComponentRule("vocoder", ("LTX2Vocoder", "LTX2VocoderWithBWE")),
        "latent_upsampler": ComponentRule(
            "upsampler", ("LTX2LatentUpsamplerModel",), optional=True, beside=True
        ),
    },
    build=build,
)

LTX_2 = Inventory(
    pipeline="LTX2Pipeline",
    parts=(
        Part(
            name="text_encoder",
            class_name="Gemma3ForConditionalGeneration",
            config={
                "text_config": {
                    "vocab_size": 262_208,
                    "hidden_size": 3840,
                    "intermediate_size": 15_360,
                    "num_hidden_layers": 48,
                    "num_attention_heads": 16,
                    "num_key_value_heads": 8,
                    "head_dim": 256,
                },
                "vision_config": {
                    "hidden_size": 1152,
                    "intermediate_size": 4304,
                    "num_hidden_layers": 27,
                    "num_attention_heads": 16,
                    "image_size": 896,
                    "patch_size": 14,
                    "vision_use_head": False,
                },
            },
            elements=12_187_325_040,
        ),
        Part(
            name="connectors",
            class_name="LTX2TextConnectors",
            config={
                "caption_channels": 3840,
                "text_proj_in_factor": 49,
                "video_connector_num_attention_heads": 30,
                "video_connector_num_layers": 2,
                "audio_connector_num_attention_heads": 30,
                "audio_connector_num_layers": 2,
            },
            elements=1_431_475_200,
        ),
        Part(
            name="transformer",
            class_name="LTX2VideoTransformer3DModel",
            config={
                "in_channels": 128,
                "num_attention_heads": 32,
                "attention_head_dim": 128,
                "cross_attention_dim": 4096,
                "audio_num_attention_heads": 32,
                "audio_attention_head_dim": 64,
                "audio_cross_attention_dim": 2048,
                "num_layers": 48,
                "caption_channels": 3840,
            },
            elements=18_876_174_592,
            blocks=(BlockGroup(path="transformer_blocks", count=48, elements=386_074_624),),
        ),
        Part(
            name="vae",
            class_name="AutoencoderKLLTX2Video",
            config={
                "latent_channels": 128,
                "block_out_channels": (256, 512, 1024, 2048),
                "decoder_block_out_channels": (256, 512, 1024),
                "layers_per_block": (4, 6, 6, 2, 2),
                "decoder_layers_per_block": (5, 5, 5, 5),
                "patch_size": 4,
            },
            elements=1_222_479_601,
        ),
        Part(
            name="audio_vae",
            class_name="AutoencoderKLLTX2Audio",
            config={"base_channels": 128, "ch_mult": (1, 2, 4), "latent_channels": 8},
            elements=53_248_146,
        ),
        Part(
            name="vocoder",
            class_name="LTX2Vocoder",
            config={"in_channels": 128, "hidden_channels": 1024, "out_channels": 2},
            elements=55_592_802,
        ),
        Part(
            name="latent_upsampler",
            class_name="LTX2LatentUpsamplerModel",
            config={"in_channels": 128, "mid_channels": 1024, "num_blocks_per_stage": 4},
            elements=497_867_904,
        ),
    ),
)
"""Lightricks/LTX-2: the published configs and the totals of the locked classes (checked by a test)."""
