"""The MOVA family (picture and sound together): facts to plan with, marked unchecked.

The locked libraries hold no MOVA class, so this engine cannot run it and no total could be counted. Sources:
the two picture experts are Wan2.2's image-to-video transformer (SGLang's `configs/models/dits/mova_video.py`
and the published config: width 5120, 40 layers, 36 input channels) and are counted as such; the sound
transformer, the bridge and the sound VAE are totals that a public code analysis counted from the MOVA-360p
weight files, in thousandths of a billion; blocks of the last two are not known, so nothing of them is
streamed. The cookbook names MOVA as validated for layerwise offload.
"""

from __future__ import annotations

from diffusion_runtime.models import wan
from diffusion_runtime.models.encoders import t5_encoder
from diffusion_runtime.models.family import STREAMABLE, ComponentRule, Family, component_facts
from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.models.vaes import causal_video_decode
from diffusion_runtime.models.wan_published import I2V_A14B_EXPERT, UMT5_XXL, VAE
from diffusion_runtime.planning.documents import ModelRef, Shape
from diffusion_runtime.planning.facts import ComponentFacts, DenoiseFacts, ModelFacts, SizeRule

NAME = "mova"
NOT_DRAWN = "diffusers, which draws in this engine, has no MOVA pipeline"
SHAPE_360P = Shape(width=640, height=352, frames=193, steps=50)
SHAPE_720P = Shape(width=1280, height=720, frames=193, steps=50)
_TOKEN_PIXELS = 16
_BRIDGE_LAYERS = 30
_SOUND_WIDTH = 1536


def build(inventory: Inventory, model: ModelRef, default_shape: Shape | None = None) -> ModelFacts:
    """Facts of a MOVA pipeline."""
    return ModelFacts(
        model=model,
        components=tuple(_component(part) for part in inventory.parts),
        guided_by_default=True,
        default_shape=default_shape or SHAPE_360P,
        sizes=SizeRule(multiple=_TOKEN_PIXELS, frame_multiple=wan.FRAMES_PER_LATENT),
        denoise=_denoise(inventory.part("video_dit")),
        decode=causal_video_decode(inventory.part("video_vae").config),
        text=t5_encoder(inventory.part("text_encoder"), wan.PROMPT_TOKENS),
        correct_axes=("cfg",),
        proven_axes=(),
        correct_dtypes=("bfloat16", "float32"),
        unchecked=tuple(
            part.name for part in inventory.parts if part.name not in ("text_encoder", "video_vae")
        ),
        sources=(
            "elements: Wan2.2's transformer for the picture experts, counts of the weight files for the rest",
            "layerwise offload: the cookbook",
        ),
        notes=(
            "MOVA is unchecked: the locked libraries have no class for it, so this engine cannot run it; "
            "its sizes come from public counts of its weight files.",
        ),
    )


def _component(part: Part) -> ComponentFacts:
    return component_facts(part, FAMILY.components[part.name])


def _denoise(video: Part) -> DenoiseFacts:
    """Wan's forward, with the bridge's projections on picture tokens in the layers that it joins."""
    base = wan.denoise_facts(video.config, _TOKEN_PIXELS)
    width = int(video.config["num_attention_heads"]) * int(video.config["attention_head_dim"])
    bridge = 2 * (2 * width**2 + 2 * width * _SOUND_WIDTH) * _BRIDGE_LAYERS
    return base.model_copy(update={"matmul_flops_per_token": base.matmul_flops_per_token + bridge})


def _tower(expert: int) -> ComponentRule:
    return ComponentRule(
        "transformer", ("WanModel",), block_paths=("blocks",), residencies=STREAMABLE, expert=expert
    )


FAMILY = Family(
    name=NAME,
    pipelines=(),
    components={
        "text_encoder": ComponentRule("textEncoder", ("UMT5EncoderModel",)),
        "video_dit": _tower(1),
        "video_dit_2": _tower(2),
        "audio_dit": ComponentRule(
            "transformer", ("WanAudioModel",), block_paths=("blocks",), residencies=STREAMABLE
        ),
        "dual_tower_bridge": ComponentRule(
            "transformer", ("DualTowerConditionalBridge",), residencies=STREAMABLE
        ),
        "video_vae": ComponentRule("vae", ("AutoencoderKLWan",), default_dtype="float32"),
        "audio_vae": ComponentRule("vae", ("DAC",)),
    },
    build=build,
)

_PICTURE = I2V_A14B_EXPERT.model_copy(update={"name": "video_dit", "class_name": "WanModel"})
MOVA = Inventory(
    pipeline="MOVA",
    parts=(
        UMT5_XXL,
        _PICTURE,
        _PICTURE.model_copy(update={"name": "video_dit_2"}),
        Part(name="audio_dit", class_name="WanAudioModel", config={}, elements=1_419_000_000),
        Part(
            name="dual_tower_bridge",
            class_name="DualTowerConditionalBridge",
            config={},
            elements=2_660_000_000,
        ),
        VAE.model_copy(update={"name": "video_vae"}),
        Part(name="audio_vae", class_name="DAC", config={}, elements=372_000_000),
    ),
)
"""OpenMOSS-Team/MOVA-360p and -720p."""
