"""A local folder is counted from its headers: elements, blocks, bytes on disk, whatever dtype it is
stored in.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.model_folder import write_pipeline, write_safetensors
from diffusion_runtime.models.catalog import facts_from_folder
from diffusion_runtime.planning.errors import BadModelFolder


def test_elements_and_blocks_over_shards(folder: Path) -> None:
    facts = facts_from_folder(folder)
    transformer = facts.component("transformer")
    assert transformer.elements == 60
    assert [(g.path, g.count, g.elements) for g in transformer.blocks] == [("transformer_blocks", 2, 12)]
    assert (facts.component("text_encoder").elements, facts.component("vae").elements) == (64, 5)
    assert facts.model.path == str(folder)
    assert facts.sizes.multiple == 16


def test_float32_on_disk_is_planned_in_bfloat16(tmp_path: Path) -> None:
    transformer = facts_from_folder(write_pipeline(tmp_path / "wide", "F32")).component("transformer")
    assert transformer.stored_bytes == 240
    assert transformer.bytes("bfloat16") == 120


def write_wan(folder: Path, image_encoder: list[str | None]) -> Path:
    """A tiny Wan 2.2 folder: two experts, and an image encoder that the index may leave out."""
    parts: dict[str, tuple[str, dict[str, object], dict[str, tuple[int, ...]]]] = {
        "text_encoder": ("UMT5EncoderModel", {"d_model": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2,
                                              "vocab_size": 6}, {"shared.weight": (6, 4)}),
        "transformer": ("WanTransformer3DModel", {"patch_size": [1, 2, 2], "num_layers": 2, "ffn_dim": 8,
                                                  "num_attention_heads": 2, "attention_head_dim": 2},
                        {"blocks.0.norm1.w": (3,), "blocks.1.norm1.w": (3,), "proj_out.w": (5,)}),
        "vae": ("AutoencoderKLWan", {"base_dim": 4, "temperal_downsample": [False, True, True]}, {"w": (7,)}),
    }  # fmt: skip
    parts["transformer_2"] = parts["transformer"]
    index: dict[str, object] = {"_class_name": "WanImageToVideoPipeline", "image_encoder": image_encoder}
    for name, (class_name, config, shapes) in parts.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
        write_safetensors(folder / name / "diffusion_pytorch_model.safetensors", shapes)
        index[name] = ["diffusers", class_name]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_parts_that_a_pipeline_may_leave_out(tmp_path: Path) -> None:
    facts = facts_from_folder(write_wan(tmp_path / "wan", [None, None]))
    assert facts.component_names == ("text_encoder", "transformer", "transformer_2", "vae")
    experts = [facts.component(name) for name in ("transformer", "transformer_2")]
    assert [(e.expert, e.elements, e.float32_elements, e.block_count) for e in experts] == [
        (1, 11, 6, 2),
        (2, 11, 6, 2),
    ]


def test_a_part_that_the_index_names_must_be_there(tmp_path: Path) -> None:
    folder = write_wan(tmp_path / "wan", ["transformers", "CLIPVisionModel"])
    with pytest.raises(BadModelFolder, match="image_encoder"):
        facts_from_folder(folder)
