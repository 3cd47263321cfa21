"""A checked folder to a diffusers pipeline on the CPU, each component in the planned dtype, from safetensors
only.

Classes come from `allowed`, never from the folder; nothing is fetched and no code of the folder runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from diffusion_runtime.planning.documents import DtypeName

from .folder import BROKEN_FOLDER, ModelFolder
from .refusal import EngineRefusal

TORCH_DTYPE: dict[DtypeName, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


def load_pipeline(
    folder: ModelFolder, dtype: dict[str, DtypeName], place: Callable[[str, torch.nn.Module], None]
) -> Any:
    """The family's pipeline. `place(name, module)` runs after each component, so host memory holds one at a
    time.

    Raises EngineRefusal when a component's files lack weights of its class or bring others.
    """
    parts: dict[str, Any] = {}
    for name, part in folder.family.parts.items():
        if name not in folder.classes:
            continue
        if part.weights:
            module = _load_component(folder, name, TORCH_DTYPE[dtype[name]])
            place(name, module)
            parts[name] = module
        else:
            parts[name] = _class(folder, name).from_pretrained(str(folder.path / name), local_files_only=True)
    pipeline_class = getattr(importlib.import_module("diffusers"), folder.family.pipeline_class)
    pipeline = pipeline_class(**parts, **folder.settings)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load_component(folder: ModelFolder, name: str, dtype: torch.dtype) -> torch.nn.Module:
    module, info = _class(folder, name).from_pretrained(
        str(folder.path / name),
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        dtype=dtype,
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            words = kind.replace("_", " ")
            first = min(str(key) for key in info[kind])
            raise EngineRefusal(
                BROKEN_FOLDER, f"{folder.path / name} does not fit {folder.classes[name]}: {words} {first}."
            )
    module.requires_grad_(False)
    loaded: torch.nn.Module = module.eval()
    return loaded


def _class(folder: ModelFolder, name: str) -> Any:
    """The class that the folder names; `folder` has checked that it is allowed."""
    if name == "processor":
        return importlib.import_module("diffusion_runtime.loading.picture_text").PictureTextProcessor
    return getattr(importlib.import_module(folder.family.parts[name].library), folder.classes[name])
