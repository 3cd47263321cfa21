"""Built-in elements equal a meta-device instantiation of the locked classes, block by block."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from diffusion_runtime.models.catalog import facts_for, facts_from_folder
from diffusion_runtime.models.inventory import Inventory
from diffusion_runtime.models.qwen_image import QWEN_IMAGE
from diffusion_runtime.models.wan import WAN_T2V_14B
from diffusion_runtime.planning.errors import UnknownModel

DEMO = Path(__file__).parents[3] / "runtime_image" / "models" / "demo"
VISION = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 3584,
}


def build(class_name: str, config: dict[str, Any]) -> Any:
    torch = importlib.import_module("torch")
    with torch.device("meta"):
        if class_name.startswith(("Qwen2_5", "UMT5")):
            transformers = importlib.import_module("transformers")
            if class_name.startswith("UMT5"):
                return transformers.UMT5EncoderModel(transformers.UMT5Config(**config))
            text = transformers.Qwen2_5_VLConfig(text_config=config, vision_config=VISION)
            return transformers.Qwen2_5_VLForConditionalGeneration(text)
        return getattr(importlib.import_module("diffusers"), class_name)(**config)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("inventory", "name"),
    [(i, part.name) for i in (QWEN_IMAGE, WAN_T2V_14B) for part in i.parts],
    ids=lambda value: value if isinstance(value, str) else value.pipeline,
)
def test_totals_blocks_and_float32(inventory: Inventory, name: str) -> None:
    part = inventory.part(name)
    config = {k: tuple(v) if isinstance(v, list) else v for k, v in part.config.items()}
    model = build(part.class_name, config)
    counts = {key: parameter.numel() for key, parameter in model.named_parameters()}
    kept = set(getattr(model, "_keep_in_fp32_modules", None) or ()) if name == "transformer" else set()
    wide = {key: n for key, n in counts.items() if set(key.split(".")) & kept}
    assert (sum(counts.values()), sum(wide.values())) == (part.elements, part.float32_elements)
    for group in part.blocks:
        for index in range(group.count):
            prefix = f"{group.path}.{index}."
            assert sum(n for k, n in counts.items() if k.startswith(prefix)) == group.elements
            assert sum(n for k, n in wide.items() if k.startswith(prefix)) == group.float32_elements
        assert not any(key.startswith(f"{group.path}.{group.count}.") for key in counts)


@pytest.mark.parametrize(
    ("model", "component", "measured_bytes"),
    [
        ("Qwen/Qwen-Image", "transformer", 40_860_802_176),
        ("Qwen/Qwen-Image", "vae", 253_785_062),
        ("Wan-AI/Wan2.1-T2V-14B-Diffusers", "vae", 253_785_062),
    ],
)
def test_bytes_as_allocated_on_a_gpu(model: str, component: str, measured_bytes: int) -> None:
    assert facts_for(model).component(component).bytes("bfloat16") == measured_bytes


def test_wan_transformer_as_allocated_plus_what_stays_in_float32() -> None:
    transformer = facts_for("Wan-AI/Wan2.1-T2V-14B-Diffusers").component("transformer")
    cast_whole = 28_578_031_744  # measured with every parameter in bfloat16, rotary tables in float32
    assert transformer.bytes("bfloat16") == cast_whole + 2 * transformer.float32_elements
    assert transformer.bytes("float32") == 4 * transformer.elements + transformer.buffer_bytes


def test_demo_facts_are_those_of_the_folder_in_the_image() -> None:
    assert facts_for("demo").components == facts_from_folder(DEMO).components
    assert facts_for("demo").denoise == facts_from_folder(DEMO).denoise


def test_unknown_id_names_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match=r"'nobody/none'; known are demo, Qwen/Qwen-Image, Wan-AI"):
        facts_for("nobody/none")
