"""Writes a tiny Qwen-Image pipeline folder: configs and real safetensors headers, a few bytes of weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TRANSFORMER: dict[str, Any] = {
    "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "patch_size": 2,
}  # fmt: skip
TEXT: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 16, "vocab_size": 32}
VAE: dict[str, Any] = {"base_dim": 4, "temperal_downsample": [False, True, True]}
CLASSES = {
    "text_encoder": ("transformers", "Qwen2_5_VLForConditionalGeneration"),
    "transformer": ("diffusers", "QwenImageTransformer2DModel"),
    "vae": ("diffusers", "AutoencoderKLQwenImage"),
    "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
}


def write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "BF16") -> None:
    """A safetensors file of zeros."""
    width = {"BF16": 2, "F32": 4}[dtype]
    header: dict[str, Any] = {}
    end = 0
    for name, shape in shapes.items():
        size = width
        for side in shape:
            size *= side
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def write_pipeline(folder: Path, dtype: str = "BF16") -> Path:
    """The whole folder; 32 + 2 x 12 + 4 transformer elements, in two shards."""
    for name in ("transformer", "text_encoder", "vae"):
        (folder / name).mkdir(parents=True)
    index = {"_class_name": "QwenImagePipeline"} | {name: list(pair) for name, pair in CLASSES.items()}
    (folder / "model_index.json").write_text(json.dumps(index))
    for name, config in (("transformer", TRANSFORMER), ("text_encoder", TEXT), ("vae", VAE)):
        (folder / name / "config.json").write_text(json.dumps(config))
    shards = {
        "a.safetensors": {"img_in.weight": (4, 8), "transformer_blocks.0.w": (3, 4)},
        "b.safetensors": {"transformer_blocks.1.w": (3, 4), "proj_out.bias": (4,)},
    }
    for shard, shapes in shards.items():
        write_safetensors(folder / "transformer" / shard, shapes, dtype)
    weight_map = {name: shard for shard, shapes in shards.items() for name in shapes}
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    path.write_text(json.dumps({"weight_map": weight_map}))
    write_safetensors(folder / "text_encoder" / "model.safetensors", {"w": (8, 8)}, dtype)
    write_safetensors(folder / "vae" / "diffusion_pytorch_model.safetensors", {"w": (5,)}, dtype)
    return folder
