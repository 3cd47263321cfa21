"""A checked folder to a diffusers pipeline, each component in the planned dtype, from safetensors only.

Classes come from `allowed`, never from the folder; nothing is fetched and no code of the folder runs. Where
weights go is not decided here: each component is handed on without storage, with the call that fills it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch

from diffusion_runtime.models.folder import component_tensors
from diffusion_runtime.planning.documents import DtypeName
from diffusion_runtime.storage import Fill

from .allowed import Library
from .component import open_component
from .folder import ModelFolder
from .record import LoadRecord

MODULES: dict[Library, str] = {
    "diffusers": "diffusers",
    "transformers": "transformers",
    "ltx2": "diffusers.pipelines.ltx2",
}
TORCH_DTYPE: dict[DtypeName, torch.dtype] = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}
Place = Callable[[str, torch.nn.Module, Fill], None]


def load_pipeline(
    folder: ModelFolder, dtype: dict[str, DtypeName], place: Place, record: LoadRecord | None = None
) -> Any:
    """The family's pipeline. `place(name, module, fill)` gives each component its storage and fills it.
    What the pipeline's class takes no part of (a latent upsampler) is an attribute of it.

    Raises EngineRefusal when a component's files lack weights of its class or bring others.
    """
    record = record or LoadRecord()
    weighty = [name for name in folder.classes if folder.family.parts[name].weights]
    for name in weighty:
        stored = component_tensors(folder.path / name).values()
        record.expect(sum(entry.stored_bytes for entry in stored))
    parts: dict[str, Any] = {}
    for name, part in folder.family.parts.items():
        if name not in folder.classes:
            continue
        if part.weights:
            module_class, planned = _class(folder, name), TORCH_DTYPE[dtype[name]]
            module, fill = open_component(folder.path / name, module_class, planned, record)
            with record.stage("place"):
                place(name, module, fill)
            parts[name] = module
        else:
            with record.stage("build"):
                parts[name] = _class(folder, name).from_pretrained(
                    str(folder.path / name), local_files_only=True
                )
    pipeline_class = getattr(importlib.import_module("diffusers"), folder.family.pipeline_class)
    beside = {name for name in parts if folder.family.parts[name].beside}
    own = {name: part for name, part in parts.items() if name not in beside}
    pipeline = pipeline_class(**own, **folder.settings)
    for name in beside:
        setattr(pipeline, name, parts[name])
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _class(folder: ModelFolder, name: str) -> Any:
    """The class that the folder names; `folder` has checked that it is allowed."""
    if name == "processor":
        return importlib.import_module("diffusion_runtime.loading.picture_text").PictureTextProcessor
    return getattr(importlib.import_module(MODULES[folder.family.parts[name].library]), folder.classes[name])
