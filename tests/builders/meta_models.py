"""Instantiates the locked diffusers and transformers classes on the meta device: exact counts, no memory."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from diffusion_runtime.models.inventory import Part

_VISION = {
    "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584,
}  # fmt: skip
_PLAIN_CONFIGS = {
    "UMT5EncoderModel": "UMT5Config",
    "T5EncoderModel": "T5Config",
    "CLIPTextModel": "CLIPTextConfig",
    "CLIPVisionModel": "CLIPVisionConfig",
    "Qwen3Model": "Qwen3Config",
    "Gemma3ForConditionalGeneration": "Gemma3Config",
}
_SUBMODULES = {
    "LTX2TextConnectors": "diffusers.pipelines.ltx2.connectors",
    "LTX2Vocoder": "diffusers.pipelines.ltx2.vocoder",
    "LTX2LatentUpsamplerModel": "diffusers.pipelines.ltx2.latent_upsampler",
}


def instantiate(part: Part) -> Any:
    """The module of this part with parameters on the meta device; the same one for the same part."""
    return _instantiate(part.to_json())


@cache
def _instantiate(part_json: str) -> Any:
    part = Part.model_validate_json(part_json)
    config = {key: tuple(v) if isinstance(v, list) else v for key, v in part.config.items()}
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    with torch.device("meta"):
        if part.class_name in _PLAIN_CONFIGS or part.class_name.startswith("Qwen2_5"):
            return _transformers_model(part.class_name, config)
        module = importlib.import_module(_SUBMODULES.get(part.class_name, "diffusers"))
        return getattr(module, part.class_name)(**config)


def _transformers_model(class_name: str, config: dict[str, Any]) -> Any:
    transformers = importlib.import_module("transformers")
    if class_name in _PLAIN_CONFIGS:
        return getattr(transformers, class_name)(getattr(transformers, _PLAIN_CONFIGS[class_name])(**config))
    both = transformers.Qwen2_5_VLConfig(text_config=config, vision_config=_VISION)
    return transformers.Qwen2_5_VLForConditionalGeneration(both)
