"""Counts a LoRA file by its header: how many elements it puts beside which component.

Factors are kept beside the weights (`weight + up x down`), so they cost their own size. Nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diffusion_runtime.models.safetensors_header import read_header
from diffusion_runtime.planning.errors import BadModelFolder
from diffusion_runtime.planning.facts import ModelFacts

_FACTORS = (
    "lora_A",
    "lora_B",
    "lora_down",
    "lora_up",
    "lora_magnitude_vector",
    "dora_scale",
    "diff_b",
    "diff",
)
_OTHER_NAMES = {"diffusion_model": "transformer", "unet": "transformer"}
"""Prefixes of other programs for what diffusers calls the transformer."""


def adapter_elements(path: Path, facts: ModelFacts) -> Mapping[str, int]:
    """Component name -> elements of its factors. Raises BadModelFolder when the file holds no LoRA.

    Names without a component in front belong to the transformer, as the training scripts write them.
    """
    found: dict[str, int] = {}
    for name, tensor in read_header(path).items():
        parts = name.split(".")
        if not any(part in _FACTORS for part in parts):
            continue
        head = _OTHER_NAMES.get(parts[0], parts[0])
        component = head if head in facts.component_names else "transformer"
        found[component] = found.get(component, 0) + tensor.elements
    if not found:
        raise BadModelFolder(f"{path} holds no LoRA factors (lora_A and lora_B, or lora_down and lora_up).")
    unknown = next((name for name in found if name not in facts.component_names), None)
    if unknown is not None:
        raise BadModelFolder(f"{path} is for a {unknown}, which {facts.model.name} does not have.")
    return found
