"""Where the units of sharding and streaming are: explicit rule, direct entries, class, numbered paths."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builders.model_folder import TRANSFORMER, write_pipeline
from diffusion_runtime.models.blocks import find_blocks
from diffusion_runtime.models.catalog import facts_for, facts_from_folder

DIRECT = {
    "img_in.weight": 9,
    "transformer_blocks.0.attn.w": 4, "transformer_blocks.1.attn.w": 4,
    "single_transformer_blocks.0.w": 2, "single_transformer_blocks.1.w": 2,
    "layers.0.w": 7, "layers.1.w": 7,
}  # fmt: skip


def test_an_explicit_rule_wins_over_direct_entries() -> None:
    found = find_blocks(DIRECT, explicit=("layers",))
    assert (found.rule, found.paths) == ("explicit", ("layers",))


def test_direct_repeated_entries_win_over_classes() -> None:
    found = find_blocks(DIRECT, block_classes=("Layer",), module_classes={"layers.0": "Layer"})
    assert (found.rule, found.paths) == ("direct", ("transformer_blocks", "single_transformer_blocks"))
    assert find_blocks({"blocks.0.w": 1, "blocks.1.w": 1}).paths == ("blocks",)


def test_a_single_direct_entry_is_not_repeated() -> None:
    assert find_blocks({"blocks.0.w": 1, "other.weight": 1}).rule == "none"


def test_modules_of_a_repeated_class() -> None:
    names = {"body.parts.0.w": 3, "body.parts.1.w": 4, "mlp.0.weight": 1, "mlp.2.weight": 1}
    classes = {"body.parts.0": "Block", "body.parts.1": "Block", "mlp.0": "Linear", "mlp.2": "Linear"}
    found = find_blocks(names, block_classes=("Block",), module_classes=classes)
    assert (found.rule, found.paths) == ("class", ("body.parts",))


def test_headers_know_no_classes_so_equal_siblings_count_as_one() -> None:
    names = {
        "body.parts.0.attn.w": 3, "body.parts.0.norm.w": 1,
        "body.parts.1.attn.w": 3, "body.parts.1.norm.w": 1,
        "mlp.0.weight": 5, "mlp.2.weight": 6,
    }  # fmt: skip
    assert find_blocks(names).paths == ("body.parts",)


def test_common_numbered_paths_come_last() -> None:
    names = {"layers.0.w": 3, "layers.1.w": 4, "stem.0.weight": 1, "stem.1.weight": 2}
    found = find_blocks(names)
    assert (found.rule, found.paths) == ("numbered", ("layers",))


def test_numbers_inside_a_block_do_not_make_blocks() -> None:
    names = {f"blocks.{i}.ffn.net.{j}.weight": 2 for i in range(3) for j in range(2)}
    assert find_blocks(names).paths == ("blocks",)


def test_a_folder_is_counted_by_the_same_rule(tmp_path: Path) -> None:
    folder = write_pipeline(tmp_path / "tiny")
    blocks = facts_from_folder(folder).component("transformer").blocks
    assert [(group.path, group.count) for group in blocks] == [("transformer_blocks", 2)]
    wrong = TRANSFORMER | {"num_layers": "two"}
    (folder / "transformer" / "config.json").write_text(json.dumps(wrong))
    with pytest.raises(ValueError, match="says num_layers = two, but the weights hold 2 blocks"):
        facts_from_folder(folder)


@pytest.mark.parametrize(
    ("blocks_per_unit", "units", "blocks_in_largest"), [(1, 60, 1), (4, 15, 4), (7, 9, 7)]
)
def test_granularity(blocks_per_unit: int, units: int, blocks_in_largest: int) -> None:
    transformer = facts_for("Qwen/Qwen-Image").component("transformer")
    assert transformer.unit_count(blocks_per_unit) == units
    one = transformer.block_bytes("bfloat16")
    assert transformer.unit_bytes("bfloat16", blocks_per_unit) == blocks_in_largest * one


def test_units_do_not_cross_kinds_of_blocks() -> None:
    transformer = facts_for("black-forest-labs/FLUX.1-dev").component("transformer")
    assert transformer.unit_count(19) == 1 + 2
    assert transformer.unit_bytes("bfloat16", 1000) == 19 * 339_831_296 * 2
