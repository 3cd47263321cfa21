"""A LoRA file is counted from its header and planned beside the component that it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.model_folder import write_safetensors
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.models.lora import adapter_elements
from diffusion_runtime.planning.errors import BadModelFolder

FACTS = facts_for("Qwen/Qwen-Image")


def test_elements_by_component(tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.transformer_blocks.0.attn.to_q.lora_A.weight": (4, 30),
        "transformer.transformer_blocks.0.attn.to_q.lora_B.weight": (30, 4),
        "diffusion_model.transformer_blocks.1.attn.to_q.lora_down.weight": (4, 30),
        "transformer_blocks.2.attn.to_q.lora_up.weight": (30, 4),
        "transformer.transformer_blocks.0.attn.to_q.alpha": (1,),
        "text_encoder.layers.0.q_proj.lora_A.weight": (2, 5),
    }
    write_safetensors(path, shapes)
    counted = adapter_elements(path, FACTS)
    assert counted == {"transformer": 480, "text_encoder": 10}
    planned = FACTS.with_adapters(counted).component("transformer")
    assert planned.bytes("bfloat16") == FACTS.component("transformer").bytes("bfloat16") + 960


def test_a_file_without_factors_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_safetensors(path, {"transformer.w": (3,)})
    with pytest.raises(BadModelFolder, match="holds no LoRA factors"):
        adapter_elements(path, FACTS)


def test_a_model_without_that_component(tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    write_safetensors(path, {"blocks.0.lora_A.weight": (3, 3)})
    with pytest.raises(
        BadModelFolder, match="is for a transformer, which OpenMOSS-Team/MOVA-360p does not have"
    ):
        adapter_elements(path, facts_for("OpenMOSS-Team/MOVA-360p"))
