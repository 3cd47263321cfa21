"""A plan's execution to a pipeline that is ready to draw on this rank: load, place, split. In that order.

Nothing here decides; the plan did. What this version does not execute was refused before
(loading.executable).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from diffusion_runtime.loading.attention import apply_attention
from diffusion_runtime.loading.compiled import CompiledBlocks
from diffusion_runtime.loading.folder import open_folder
from diffusion_runtime.loading.pipeline import load_pipeline
from diffusion_runtime.loading.record import LoadRecord
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.parallel.cfg import CfgBranches, apply_cfg_parallel
from diffusion_runtime.parallel.fsdp import shard
from diffusion_runtime.parallel.ranks import layout_mesh
from diffusion_runtime.parallel.ulysses import apply_ulysses
from diffusion_runtime.planning.documents import ComponentKind, Execution
from diffusion_runtime.residency.owner import ComponentOwner, Phase
from diffusion_runtime.residency.placement import place
from diffusion_runtime.storage import Fill

from .call import FamilyCall
from .families import CALLS

TILE_STRIDE = 0.75  # diffusers' own overlap: a quarter of a tile
PHASES: dict[ComponentKind, Phase] = {
    "transformer": "denoise",
    "vae": "decode",
    "vocoder": "decode",
    "upsampler": "decode",
}
"""The phase that a component works in; every other kind prepares the prompt."""


@dataclass(frozen=True)
class BuiltPipeline:
    """What `picture.draw` needs. `owner` has every component and moves it when the pipeline calls it.

    `guidance_scale` is the one that the model's authors draw with.
    """

    pipeline: Any
    family: FamilyCall
    device: torch.device
    owner: ComponentOwner
    branches: CfgBranches | None
    rank: int
    compiled: CompiledBlocks | None = None
    guidance_scale: float = 1.0


def rank_device(execution: Execution, rank: int) -> torch.device:
    """This rank's device; EngineRefusal (NoUsableGpu) instead of a silent run on the CPU."""
    if execution.device == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available() or torch.cuda.device_count() <= rank:
        raise EngineRefusal(
            "NoUsableGpu", f"Rank {rank} needs CUDA device {rank}; torch sees {torch.cuda.device_count()}."
        )
    torch.cuda.set_device(rank)
    return torch.device("cuda", rank)


def build(
    model_path: str,
    execution: Execution,
    rank: int,
    device: torch.device,
    record: LoadRecord | None = None,
) -> BuiltPipeline:
    """Load, place and split every component as the plan says (the ranks have joined).

    `record` learns bytes and seconds while it runs.
    """
    folder = open_folder(Path(model_path))
    mesh = layout_mesh(execution.layout, device)
    owner = ComponentOwner(device)
    compiled = CompiledBlocks(folder.family.varying) if execution.compile.enabled else None

    def place_component(name: str, module: torch.nn.Module, fill: Fill) -> None:
        blocks = [block for path, _ in folder.blocks.get(name, ()) for block in _children(module, path)]
        if folder.kinds[name] == "transformer":
            apply_attention(module, execution.attention.backend, device.type)
        if blocks and compiled is not None:
            compiled.add(blocks)
        if blocks and mesh is not None and execution.layout.ulysses > 1:
            apply_ulysses(module, mesh, device)
        if blocks and execution.layout.fsdp:
            in_use = shard(module, blocks, execution.layout.fsdp_blocks_per_unit, device, fill)
        else:
            in_use = place(module, execution.residency[name], device, fill, blocks)
        moves = execution.residency[name].mode != "resident"
        owner.add(name, module, in_use, PHASES.get(folder.kinds[name], "text"), moves=moves)

    pipeline = load_pipeline(folder, execution.dtype, place_component, record)
    _pin_device(pipeline, device)
    _set_vae(pipeline, execution)
    branches = None
    if mesh is not None and execution.layout.cfg == 2:
        branches = apply_cfg_parallel(pipeline.transformer, mesh["cfg"])
    return BuiltPipeline(
        pipeline=pipeline,
        family=CALLS[folder.family.family],
        device=device,
        owner=owner,
        branches=branches,
        rank=rank,
        compiled=compiled,
        guidance_scale=folder.family.guidance_scale,
    )


def _children(module: torch.nn.Module, path: str) -> list[torch.nn.Module]:
    return list(module.get_submodule(path).children())


def _pin_device(pipeline: Any, device: torch.device) -> None:
    """diffusers guesses the device from the first component, which may be parked on the host: say it."""
    base = type(pipeline)
    pipeline.__class__ = type(base.__name__, (base,), {"_execution_device": property(lambda _: device)})


def _set_vae(pipeline: Any, execution: Execution) -> None:
    if not execution.vae.tiling:
        return
    size = execution.vae.tile_size or pipeline.vae.tile_sample_min_height
    stride = int(size * TILE_STRIDE)
    pipeline.vae.enable_tiling(
        tile_sample_min_height=size,
        tile_sample_min_width=size,
        tile_sample_stride_height=stride,
        tile_sample_stride_width=stride,
    )
