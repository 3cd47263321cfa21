"""A plan's execution to a pipeline that is ready to draw on this rank: load, place, split. In that order.

Nothing here decides; the plan did. What this version does not execute was refused before
(loading.executable).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL

from diffusion_runtime.loading.attention import apply_attention
from diffusion_runtime.loading.compiled import CompiledBlocks
from diffusion_runtime.loading.folder import open_folder
from diffusion_runtime.loading.pipeline import load_pipeline
from diffusion_runtime.loading.record import LoadRecord
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.parallel.cfg import CfgParallel, apply_cfg_parallel
from diffusion_runtime.parallel.fsdp import shard
from diffusion_runtime.parallel.ranks import layout_mesh
from diffusion_runtime.parallel.sequence import apply_sequence_parallel
from diffusion_runtime.parallel.tensor import apply_tensor_parallel
from diffusion_runtime.parallel.text_encoder import slice_text_encoder
from diffusion_runtime.planning.documents import ComponentKind, Execution
from diffusion_runtime.residency.owner import ComponentOwner, Phase
from diffusion_runtime.residency.placement import InUse, place
from diffusion_runtime.storage import Fill

from .call import FamilyCall
from .families import CALLS

STILL_FPS = 16.0  # of single pictures, where it means nothing
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

    `guidance_scale` is the one that the model's authors draw with; up to `unguided_scale` there is none.
    `input_images`: pictures that a request must bring. `fps`: frames a second when a request names none.
    """

    pipeline: Any
    family: FamilyCall
    device: torch.device
    owner: ComponentOwner
    branches: CfgParallel | None
    rank: int
    compiled: CompiledBlocks | None = None
    guidance_scale: float = 1.0
    input_images: int = 0
    unguided_scale: float = 1.0
    fps: float = STILL_FPS


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
        if execution.layout.text_encoder_tensor and name in folder.encoder_slices:
            fill = slice_text_encoder(module, fill)
        if blocks and compiled is not None:
            compiled.add(blocks)
        if blocks and mesh is not None and execution.layout.tensor > 1:
            apply_tensor_parallel(module, mesh["tensor"], device, fill)
        if blocks and mesh is not None and execution.layout.ulysses * execution.layout.ring > 1:
            apply_sequence_parallel(module, mesh, device)
        if blocks and execution.layout.tensor > 1:
            in_use: InUse = nullcontext  # its slices are on the device for good
        elif blocks and execution.layout.fsdp:
            in_use = shard(module, blocks, execution.layout.fsdp_blocks_per_unit, device, fill)
        else:
            in_use = place(module, execution.residency[name], device, fill, blocks)
        _say_device(module, device)
        moves = execution.residency[name].mode != "resident"
        owner.add(name, module, in_use, PHASES.get(folder.kinds[name], "text"), moves=moves)

    family = CALLS[folder.family.pipeline_class]
    pipeline = load_pipeline(folder, execution.dtype, place_component, record)
    _pin_device(pipeline, device)
    _set_vae(pipeline, execution)
    branches = None
    if mesh is not None and execution.layout.cfg == 2:
        transformers = [
            getattr(pipeline, name) for name, kind in folder.kinds.items() if kind == "transformer"
        ]
        branches = apply_cfg_parallel(transformers, mesh["cfg"], family.guidance)
    return BuiltPipeline(
        pipeline=pipeline,
        family=family,
        device=device,
        owner=owner,
        branches=branches,
        rank=rank,
        compiled=compiled,
        guidance_scale=folder.family.guidance_scale,
        input_images=folder.family.input_images[0],
        unguided_scale=folder.family.unguided_scale,
        fps=folder.family.fps or STILL_FPS,
    )


def _children(module: torch.nn.Module, path: str) -> list[torch.nn.Module]:
    return list(module.get_submodule(path).children())


def _pin_device(pipeline: Any, device: torch.device) -> None:
    """diffusers guesses the device from the first component, which may be parked on the host: say it."""
    base = type(pipeline)
    pipeline.__class__ = type(base.__name__, (base,), {"_execution_device": property(lambda _: device)})


def _say_device(module: torch.nn.Module, device: torch.device) -> None:
    """Where its inputs belong: diffusers looks for this before it looks where the weights are parked now."""
    module._hf_hook = SimpleNamespace(execution_device=device)  # type: ignore[assignment]


def _set_vae(pipeline: Any, execution: Execution) -> None:
    if not execution.vae.tiling:
        return
    if isinstance(pipeline.vae, AutoencoderKL):
        _tile_pictures(pipeline.vae, execution.vae.tile_size)
        return
    size = execution.vae.tile_size or pipeline.vae.tile_sample_min_height
    stride = int(size * TILE_STRIDE)
    pipeline.vae.enable_tiling(
        tile_sample_min_height=size,
        tile_sample_min_width=size,
        tile_sample_stride_height=stride,
        tile_sample_stride_width=stride,
    )


def _tile_pictures(vae: AutoencoderKL, tile_size: int | None) -> None:
    """This class takes one side and overlaps by a quarter of it without being told."""
    vae.enable_tiling()
    if tile_size is not None:
        vae.tile_sample_min_size = tile_size
        vae.tile_latent_min_size = tile_size // 2 ** (len(vae.config.block_out_channels) - 1)
