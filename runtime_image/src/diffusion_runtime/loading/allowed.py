"""The classes this engine builds, per family. A folder that names any other class is refused, so no folder
can choose code.

Torch-free: names only; `pipeline` imports the classes. Class names are those of `model_index.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Library = Literal["diffusers", "transformers"]


@dataclass(frozen=True)
class AllowedPart:
    """One entry of a pipeline folder: its class, and whether it holds weights (a tokenizer holds none).

    `also`: further classes that published folders name. `optional`: a folder may come without it.
    """

    library: Library
    class_name: str
    weights: bool
    also: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class AllowedFamily:
    """A pipeline class, exactly the parts it is built from, and the guidance scale its authors draw with.

    `varying`: of each block call, keyword and dimension of what follows the prompt's length; `name.1` is
    item 1 of `name`. `settings`: entries of model_index.json that are plain values and are the pipeline's.
    `fps`: frames per second that the model was trained for; None where it draws single pictures.
    """

    family: str
    pipeline_class: str
    guidance_scale: float
    parts: dict[str, AllowedPart]
    varying: tuple[tuple[str, int], ...]
    settings: tuple[str, ...] = ()
    fps: int | None = None


WAN_PARTS: dict[str, AllowedPart] = {
    "text_encoder": AllowedPart("transformers", "UMT5EncoderModel", weights=True),
    "transformer": AllowedPart("diffusers", "WanTransformer3DModel", weights=True),
    "transformer_2": AllowedPart("diffusers", "WanTransformer3DModel", weights=True, optional=True),
    "vae": AllowedPart("diffusers", "AutoencoderKLWan", weights=True),
    "tokenizer": AllowedPart("transformers", "T5TokenizerFast", weights=False, also=("T5Tokenizer",)),
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
        parts={
            "text_encoder": AllowedPart("transformers", "Qwen2_5_VLForConditionalGeneration", weights=True),
            "transformer": AllowedPart("diffusers", "QwenImageTransformer2DModel", weights=True),
            "vae": AllowedPart("diffusers", "AutoencoderKLQwenImage", weights=True),
            "tokenizer": AllowedPart("transformers", "Qwen2Tokenizer", weights=False),
            "scheduler": AllowedPart("diffusers", "FlowMatchEulerDiscreteScheduler", weights=False),
        },
        varying=(("encoder_hidden_states", 1), ("image_rotary_emb.1", 0)),
    ),
    "wan": AllowedFamily(
        family="wan",
        pipeline_class="WanPipeline",
        guidance_scale=5.0,
        parts=WAN_PARTS,
        varying=(),  # prompts are padded to one length
        settings=WAN_SETTINGS,
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
    ),
}
