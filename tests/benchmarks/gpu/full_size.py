"""Writes a pipeline folder at a model's full published size with random weights, shard by shard.

Architecture and counts come from the catalog (a unit test holds them against the real classes); tokenizer,
scheduler and other small parts come from a small folder of the same pipeline. Nothing is drawn that means
anything: such a folder is for bytes and seconds only.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from builders.meta_models import instantiate
from diffusion_runtime.models.catalog import PUBLISHED

SHARD_BYTES = 4 * 2**30
PICTURE_IDS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
"""Words of the small tokenizer that a text encoder looks for."""
PUBLISHED_PIXELS = {"min_pixels": 56 * 56, "max_pixels": 12_845_056}
"""What Qwen-Image-Edit's processor makes of a picture at most and at least."""
PUBLISHED_SETTINGS = {
    "AutoencoderKLLTX2Video": {"spatial_compression_ratio": 32, "temporal_compression_ratio": 8},
}
"""What the class would guess otherwise, wrongly: 64 and 16, with a quarter of the tokens in space."""
DIFFUSERS_NAME, TRANSFORMERS_NAME = "diffusion_pytorch_model", "model"


def write_full_size(model_id: str, small: Path, folder: Path, device: torch.device) -> None:
    """`small` is a folder of the same pipeline class. Weights are bfloat16, made on `device`."""
    inventory = PUBLISHED[model_id][1]
    index = json.loads((small / "model_index.json").read_text())
    if index["_class_name"] != inventory.pipeline:
        raise ValueError(f"{small} is a {index['_class_name']}, {model_id} is a {inventory.pipeline}")
    # A part that the small folder lacks belongs to a second pipeline of the same repository.
    inventory_parts = [part for part in inventory.parts if part.name in index or (small / part.name).is_dir()]
    parts = {part.name for part in inventory_parts}
    folder.mkdir(parents=True)
    for entry in small.iterdir():
        if entry.is_dir() and entry.name not in parts:
            shutil.copytree(entry, folder / entry.name)
    generator = torch.Generator(device).manual_seed(0)
    for part in inventory_parts:
        module = instantiate(part)
        target = folder / part.name
        target.mkdir()
        _write_config(module, target, small / part.name)
        name = DIFFUSERS_NAME if hasattr(module, "save_config") else TRANSFORMERS_NAME
        _write_weights(module, target, name, device, generator)
    _fit_readers(folder)
    shutil.copy(small / "model_index.json", folder / "model_index.json")


def _fit_readers(folder: Path) -> None:
    """What reads pictures comes from the small folder: make it cut them as the full-size encoders expect."""
    for name, encoder in (("image_processor", "image_encoder"), ("processor", "text_encoder")):
        file = folder / name / "preprocessor_config.json"
        if not file.is_file():
            continue
        reader = json.loads(file.read_text())
        config = json.loads((folder / encoder / "config.json").read_text())
        if encoder == "image_encoder":
            side = config["image_size"]
            reader |= {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
        else:
            vision = config["vision_config"]
            reader |= {"patch_size": vision["patch_size"], "merge_size": vision["spatial_merge_size"]}
            reader |= {"temporal_patch_size": vision["temporal_patch_size"]} | PUBLISHED_PIXELS
            if "size" in reader:
                least, most = PUBLISHED_PIXELS.values()
                reader["size"] = {"shortest_edge": least, "longest_edge": most}
        file.write_text(json.dumps(reader, indent=1))


def _write_config(module: Any, target: Path, small: Path) -> None:
    """The module's own; what its class leaves open (how latents are scaled) is the small folder's."""
    if hasattr(module, "save_config"):
        module.save_config(target)
    else:
        module.config.save_pretrained(target)
    file = target / "config.json"
    config, given = (json.loads((folder / "config.json").read_text()) for folder in (target, small))
    config |= {key: value for key, value in given.items() if config.get(key) is None or key in PICTURE_IDS}
    config |= PUBLISHED_SETTINGS.get(type(module).__name__, {})
    file.write_text(json.dumps(config, indent=1))


def _write_weights(
    module: torch.nn.Module, target: Path, name: str, device: torch.device, generator: torch.Generator
) -> None:
    shards = list(_shards(module))
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = (
            f"{name}.safetensors"
            if len(shards) == 1
            else f"{name}-{number:05}-of-{len(shards):05}.safetensors"
        )
        tensors = {key: _random(key, tensor, device, generator) for key, tensor in shard.items()}
        save_file(tensors, target / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, file)
    if len(shards) > 1:
        index = {"metadata": {}, "weight_map": weight_map}
        (target / f"{name}.safetensors.index.json").write_text(json.dumps(index))


def _shards(module: torch.nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Unique parameters and the buffers of the checkpoint, in order, in parts of at most `SHARD_BYTES`."""
    saved = module.state_dict()
    own = dict(module.named_parameters()) | {k: v for k, v in module.named_buffers() if k in saved}
    shard: dict[str, torch.Tensor] = {}
    size = 0
    for key, tensor in own.items():
        if shard and size + 2 * tensor.numel() > SHARD_BYTES:
            yield shard
            shard, size = {}, 0
        shard[key] = tensor
        size += 2 * tensor.numel()
    yield shard


def _random(key: str, like: torch.Tensor, device: torch.device, generator: torch.Generator) -> torch.Tensor:
    """Weights that keep activations finite: norms 1, vectors 0, matrices by their inputs."""
    if like.dim() < 2:
        ones = ("norm" in key and key.endswith("weight")) or key.endswith(("gamma", "latents_std"))
        value = 1.0 if ones else 0.0
        return torch.full(like.shape, value, dtype=torch.bfloat16)
    spread = 0.5 / math.sqrt(like[0].numel())
    weights = torch.empty(like.shape, dtype=torch.bfloat16, device=device)
    return weights.normal_(0.0, spread, generator=generator).cpu()
