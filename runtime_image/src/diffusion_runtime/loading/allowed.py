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
    """One entry of a pipeline folder: its class, and whether it holds weights (a tokenizer holds none)."""

    library: Library
    class_name: str
    weights: bool


@dataclass(frozen=True)
class AllowedFamily:
    """A pipeline class, exactly the parts it is built from, and the guidance scale its authors draw with.

    `varying`: of each block call, keyword and dimension of what follows the prompt's length; `name.1` is
    item 1 of `name`.
    """

    family: str
    pipeline_class: str
    guidance_scale: float
    parts: dict[str, AllowedPart]
    varying: tuple[tuple[str, int], ...]


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
}
