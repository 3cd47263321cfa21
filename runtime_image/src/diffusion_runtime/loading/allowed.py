"""The classes this engine builds, per family. A folder that names any other class is refused, so no folder
can choose code.

Torch-free: names only; `pipeline` imports the classes. Class names are those of `model_index.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Library = Literal["diffusers", "transformers", "ltx2"]
"""As folders name it; `ltx2` is a pipeline folder of diffusers."""


@dataclass(frozen=True)
class AllowedPart:
    """One entry of a pipeline folder: its class, and whether it holds weights (a tokenizer holds none).

    `also`: further classes that published folders name. `optional`: a folder may come without it.
    `beside`: the pipeline is built without it, and model_index.json need not list it.
    """

    library: Library
    class_name: str
    weights: bool
    also: tuple[str, ...] = ()
    optional: bool = False
    beside: bool = False


@dataclass(frozen=True)
class AllowedFamily:
    """A pipeline class, exactly the parts it is built from, and the guidance scale its authors draw with.

    A scale up to `unguided_scale` means no second pass. `embeds_guidance`: what users call guidance_scale is
    an input of the model, and a second pass is only run for a true_cfg_scale.

    `varying`: of each block call, argument and dimension of what follows the prompt's length; `name.1` is
    item 1 of `name`. `settings`: entries of model_index.json that are plain values and are the pipeline's.
    `fps`: frames per second that the model was trained for; None where it draws single pictures.
    `input_images`: how many pictures a request brings, at least and at most. `picture_setting`: a folder with
    this setting may also take one. `one_dtype`: its pipeline hands tensors from one component to the next
    without a cast.
    """

    family: str
    pipeline_class: str
    guidance_scale: float
    parts: dict[str, AllowedPart]
    varying: tuple[tuple[str, int], ...]
    settings: tuple[str, ...] = ()
    fps: int | None = None
    input_images: tuple[int, int] = (0, 0)
    picture_setting: str | None = None
    unguided_scale: float = 1.0
    embeds_guidance: bool = False
    one_dtype: bool = False


QWEN_PARTS: dict[str, AllowedPart] = {
    "text_encoder": AllowedPart("transformers", "Qwen2_5_VLForConditionalGeneration", weights=True),
    "transformer": AllowedPart("diffusers", "QwenImageTransformer2DModel", weights=True),
    "vae": AllowedPart("diffusers", "AutoencoderKLQwenImage", weights=True),
    "tokenizer": AllowedPart("transformers", "Qwen2Tokenizer", weights=False, also=("Qwen2TokenizerFast",)),
    "scheduler": AllowedPart("diffusers", "FlowMatchEulerDiscreteScheduler", weights=False),
}
QWEN_PROCESSOR = {
    "processor": AllowedPart("transformers", "Qwen2VLProcessor", weights=False, also=("Qwen2_5_VLProcessor",))
}
QWEN_VARYING = (("encoder_hidden_states", 1), ("image_rotary_emb.1", 0))
QWEN_EDIT_VARYING = (*QWEN_VARYING, ("hidden_states", 1), ("image_rotary_emb.0", 0))
"""Of an edit, what follows the proportions of the pictures that come with it, too."""
T5_TOKENIZER = AllowedPart("transformers", "T5TokenizerFast", weights=False, also=("T5Tokenizer",))
WAN_PARTS: dict[str, AllowedPart] = {
    "text_encoder": AllowedPart("transformers", "UMT5EncoderModel", weights=True),
    "transformer": AllowedPart("diffusers", "WanTransformer3DModel", weights=True),
    "transformer_2": AllowedPart("diffusers", "WanTransformer3DModel", weights=True, optional=True),
    "vae": AllowedPart("diffusers", "AutoencoderKLWan", weights=True),
    "tokenizer": T5_TOKENIZER,
    "scheduler": AllowedPart(
        "diffusers", "UniPCMultistepScheduler", weights=False, also=("FlowMatchEulerDiscreteScheduler",)
    ),
}
WAN_SETTINGS = ("boundary_ratio", "expand_timesteps")


FAMILIES: dict[str, AllowedFamily] = {
    "qwen-image": AllowedFamily(
        family="qwen-image",
        pipeline_class="QwenImagePipeline",
        guidance_scale=4.0,  # true_cfg_scale of the model card
        parts=QWEN_PARTS,
        varying=QWEN_VARYING,
    ),
    "qwen-image edit": AllowedFamily(
        family="qwen-image",
        pipeline_class="QwenImageEditPipeline",
        guidance_scale=4.0,
        parts=QWEN_PARTS | QWEN_PROCESSOR,
        varying=QWEN_EDIT_VARYING,
        input_images=(1, 1),
        one_dtype=True,
    ),
    "qwen-image edit plus": AllowedFamily(
        family="qwen-image",
        pipeline_class="QwenImageEditPlusPipeline",
        guidance_scale=4.0,
        parts=QWEN_PARTS | QWEN_PROCESSOR,
        varying=QWEN_EDIT_VARYING,
        input_images=(1, 3),
        one_dtype=True,
    ),
    "z-image": AllowedFamily(
        family="z-image",
        pipeline_class="ZImagePipeline",
        guidance_scale=4.0,  # of the model card; Turbo is drawn without
        unguided_scale=0.0,  # the pipeline adds the scaled difference to the prompt's own prediction
        parts={
            "text_encoder": AllowedPart(
                "transformers", "Qwen3Model", weights=True, also=("Qwen3ForCausalLM",)
            ),
            "transformer": AllowedPart("diffusers", "ZImageTransformer2DModel", weights=True),
            "vae": AllowedPart("diffusers", "AutoencoderKL", weights=True),
            "tokenizer": AllowedPart("transformers", "Qwen2Tokenizer", weights=False),
            "scheduler": AllowedPart("diffusers", "FlowMatchEulerDiscreteScheduler", weights=False),
        },
        varying=(("x", 1), ("attn_mask", 1), ("freqs_cis", 1)),
    ),
    "flux": AllowedFamily(
        family="flux",
        pipeline_class="FluxPipeline",
        guidance_scale=4.0,  # of a second pass, which its authors do not draw with
        embeds_guidance=True,
        parts={
            "text_encoder": AllowedPart("transformers", "CLIPTextModel", weights=True),
            "text_encoder_2": AllowedPart("transformers", "T5EncoderModel", weights=True),
            "transformer": AllowedPart("diffusers", "FluxTransformer2DModel", weights=True),
            "vae": AllowedPart("diffusers", "AutoencoderKL", weights=True),
            "tokenizer": AllowedPart("transformers", "CLIPTokenizer", weights=False),
            "tokenizer_2": T5_TOKENIZER,
            "scheduler": AllowedPart("diffusers", "FlowMatchEulerDiscreteScheduler", weights=False),
        },
        varying=(),  # prompts are padded to one length
    ),
    "wan": AllowedFamily(
        family="wan",
        pipeline_class="WanPipeline",
        guidance_scale=5.0,
        parts=WAN_PARTS,
        varying=(),  # prompts are padded to one length
        settings=WAN_SETTINGS,
        picture_setting="expand_timesteps",
        fps=16,
    ),
    "wan image to video": AllowedFamily(
        family="wan",
        pipeline_class="WanImageToVideoPipeline",
        guidance_scale=5.0,
        parts=WAN_PARTS
        | {
            "image_encoder": AllowedPart(
                "transformers",
                "CLIPVisionModel",
                weights=True,
                also=("CLIPVisionModelWithProjection",),
                optional=True,
            ),
            "image_processor": AllowedPart(
                "transformers",
                "CLIPImageProcessor",
                weights=False,
                also=("CLIPImageProcessorFast", "CLIPImageProcessorPil"),
                optional=True,
            ),
        },
        varying=(),
        settings=WAN_SETTINGS,
        fps=16,
        input_images=(1, 1),
    ),
    "ltx-2": AllowedFamily(
        family="ltx-2",
        pipeline_class="LTX2Pipeline",
        guidance_scale=4.0,
        parts={
            "text_encoder": AllowedPart("transformers", "Gemma3ForConditionalGeneration", weights=True),
            "connectors": AllowedPart("ltx2", "LTX2TextConnectors", weights=True),
            "transformer": AllowedPart("diffusers", "LTX2VideoTransformer3DModel", weights=True),
            "vae": AllowedPart("diffusers", "AutoencoderKLLTX2Video", weights=True),
            "audio_vae": AllowedPart("diffusers", "AutoencoderKLLTX2Audio", weights=True),
            "vocoder": AllowedPart("ltx2", "LTX2Vocoder", weights=True, also=("LTX2VocoderWithBWE",)),
            "latent_upsampler": AllowedPart(
                "ltx2", "LTX2LatentUpsamplerModel", weights=True, optional=True, beside=True
            ),
            "tokenizer": AllowedPart(
                "transformers", "GemmaTokenizerFast", weights=False, also=("GemmaTokenizer",)
            ),
            "scheduler": AllowedPart("diffusers", "FlowMatchEulerDiscreteScheduler", weights=False),
        },
        varying=(),  # prompts are padded to one length
        fps=24,
    ),
}


def of_family(name: str) -> AllowedFamily | None:
    """What this engine knows of a family's guidance; None for a family that it does not draw."""
    return next((family for family in FAMILIES.values() if family.family == name), None)
