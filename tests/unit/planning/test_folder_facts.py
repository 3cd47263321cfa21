"""A local folder is counted from its headers: elements, blocks, bytes on disk, whatever dtype it is
stored in.
"""

from __future__ import annotations

from pathlib import Path

from builders.model_folder import write_pipeline
from diffusion_runtime.models.catalog import facts_from_folder


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
