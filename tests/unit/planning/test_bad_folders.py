"""Folders that are no loadable model: one sentence that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.model_folder import write_safetensors
from diffusion_runtime.models.catalog import facts_from_folder
from diffusion_runtime.planning.errors import BadModelFolder

VAE_FILE = "vae/diffusion_pytorch_model.safetensors"


def refused(folder: Path, words: str) -> None:
    with pytest.raises(BadModelFolder, match=words) as refusal:
        facts_from_folder(folder)
    assert str(refusal.value).endswith(".")
    assert "\n" not in str(refusal.value)


def test_not_a_folder(tmp_path: Path) -> None:
    refused(tmp_path / "nothing", "nothing is not a folder")


def test_not_a_model(tmp_path: Path) -> None:
    refused(tmp_path, "no diffusers pipeline: model_index.json is missing")


def test_truncated_weights(folder: Path) -> None:
    path = folder / VAE_FILE
    path.write_bytes(path.read_bytes()[:-3])
    refused(folder, "diffusion_pytorch_model.safetensors is truncated: its tensors need 10 bytes .* holds 7")


def test_empty_file(folder: Path) -> None:
    (folder / VAE_FILE).write_bytes(b"")
    refused(folder, "no safetensors file: it has only 0 bytes")


@pytest.mark.parametrize("length", [10**9, 2**63])
def test_header_that_lies_about_its_length(folder: Path, length: int) -> None:
    path = folder / VAE_FILE
    path.write_bytes(length.to_bytes(8, "little") + path.read_bytes()[8:])
    refused(folder, f"says that its header has {length} bytes")


def test_header_that_is_no_json(folder: Path) -> None:
    (folder / VAE_FILE).write_bytes((4).to_bytes(8, "little") + b"oops")
    refused(folder, "header that is not JSON")


def test_offsets_that_do_not_match_the_shape(folder: Path) -> None:
    header = json.dumps({"w": {"dtype": "BF16", "shape": [5], "data_offsets": [0, 4]}}).encode()
    (folder / VAE_FILE).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    refused(folder, "offsets that do not match its shape")


def test_missing_shard(folder: Path) -> None:
    (folder / "transformer" / "b.safetensors").unlink()
    refused(folder, "b.safetensors is missing, but diffusion_pytorch_model.safetensors.index.json names it")


def test_shard_outside_the_folder(folder: Path) -> None:
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "../../etc/b.safetensors"}}))
    refused(folder, "no safetensors file beside it")


def test_missing_weights(folder: Path) -> None:
    (folder / VAE_FILE).unlink()
    refused(folder, "neither diffusion_pytorch_model.safetensors or model.safetensors nor an index")


def test_block_count_against_config(folder: Path) -> None:
    write_safetensors(
        folder / "transformer" / "b.safetensors", {"transformer_blocks.1.w": (3, 4), "proj_out.bias": (4,)}
    )
    config = folder / "transformer" / "config.json"
    config.write_text(config.read_text().replace('"num_layers": 2', '"num_layers": 3'))
    refused(folder, "says num_layers = 3, but the weights hold 2 blocks")


def test_config_without_a_key(folder: Path) -> None:
    (folder / "vae" / "config.json").write_text("{}")
    refused(folder, "lacks or misstates 'temperal_downsample'")


def test_unknown_pipeline(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    refused(folder, "is a StableDiffusionPipeline; pipelines that are served: QwenImagePipeline")


def test_foreign_class(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["vae"] = ["my_code", "Evil"]
    (folder / "model_index.json").write_text(json.dumps(index))
    refused(folder, "gives vae the class Evil; qwen-image takes AutoencoderKLQwenImage")
