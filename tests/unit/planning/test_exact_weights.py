"""Built-in elements equal a meta-device instantiation of the locked classes, block by block."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.meta_models import instantiate
from diffusion_runtime.models.blocks import find_blocks
from diffusion_runtime.models.catalog import FAMILIES, PUBLISHED, facts_for, facts_from_folder
from diffusion_runtime.models.inventory import Part
from diffusion_runtime.planning.errors import UnknownModel

DEMO = Path(__file__).parents[3] / "runtime_image" / "models" / "demo"
WITHOUT_CLASS = {"WanModel", "WanAudioModel", "DualTowerConditionalBridge", "DAC"}


def parts() -> dict[str, Part]:
    """Every distinct counted part of the published inventories, by a readable name."""
    found: dict[str, Part] = {}
    for model_id, (_, inventory, _, _) in PUBLISHED.items():
        for part in inventory.parts:
            if part.class_name not in WITHOUT_CLASS and part not in found.values():
                found[f"{model_id}:{part.name}"] = part
    return found


PARTS = parts()
each_part = pytest.mark.parametrize("name", PARTS)


@pytest.mark.filterwarnings("ignore")
@each_part
def test_totals_and_float32(name: str) -> None:
    part = PARTS[name]
    model = instantiate(part)
    counts = {key: parameter.numel() for key, parameter in model.named_parameters()}
    # transformers keeps its list only when it loads float16, so it concerns diffusers' classes alone.
    keeps = part.class_name == "WanTransformer3DModel"
    kept = set(model._keep_in_fp32_modules) if keeps else set()
    wide = {key: n for key, n in counts.items() if set(key.split(".")) & kept}
    assert (sum(counts.values()), sum(wide.values())) == (part.elements, part.float32_elements)
    for group in part.blocks:
        for index in range(group.count):
            prefix = f"{group.path}.{index}."
            assert sum(n for k, n in counts.items() if k.startswith(prefix)) == group.elements
            assert sum(n for k, n in wide.items() if k.startswith(prefix)) == group.float32_elements
        assert not any(key.startswith(f"{group.path}.{group.count}.") for key in counts)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.blocks])
def test_blocks_are_those_that_the_class_repeats(name: str) -> None:
    part = PARTS[name]
    model = instantiate(part)
    elements = {key: parameter.numel() for key, parameter in model.named_parameters()}
    classes = {key: type(module).__name__ for key, module in model.named_modules()}
    # Under another name than the usual ones, so that only the class can tell.
    renamed = {key.replace("blocks.", "parts."): n for key, n in elements.items()}
    modules = {key.replace("blocks.", "parts."): n for key, n in classes.items()}
    found = find_blocks(renamed, block_classes=tuple(model._repeated_blocks), module_classes=modules)
    assert found.rule == "class"
    assert {p.replace("parts", "blocks") for p in found.paths} == {group.path for group in part.blocks}


@pytest.mark.parametrize("name", [name for name, part in PARTS.items() if part.blocks])
def test_explicit_paths_of_the_family_hold_all_blocks(name: str) -> None:
    model_id, _, component = name.partition(":")
    family = next(f for f in FAMILIES if f.name == PUBLISHED[model_id][0])
    assert family.components[component].block_paths == tuple(group.path for group in PARTS[name].blocks)


@pytest.mark.parametrize(
    ("model", "component", "measured_bytes"),
    [
        ("Qwen/Qwen-Image", "transformer", 40_860_802_176),
        ("Qwen/Qwen-Image", "vae", 253_785_062),
        ("Wan-AI/Wan2.1-T2V-14B-Diffusers", "vae", 253_785_062),
        ("Tongyi-MAI/Z-Image", "transformer", 12_309_817_472),
        ("Tongyi-MAI/Z-Image", "text_encoder", 8_044_936_448),
        ("black-forest-labs/FLUX.1-dev", "transformer", 23_802_816_640),
        ("black-forest-labs/FLUX.1-dev", "vae", 167_639_366),
    ],
)
def test_bytes_as_allocated_on_a_gpu(model: str, component: str, measured_bytes: int) -> None:
    assert facts_for(model).component(component).bytes("bfloat16") == measured_bytes


@pytest.mark.parametrize(
    ("model", "cast_whole"),
    [
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", 2_839_042_176),
        ("Wan-AI/Wan2.1-T2V-14B-Diffusers", 28_578_031_744),
        ("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", 32_790_806_144),
    ],
)
def test_wan_transformer_as_allocated_plus_what_stays_in_float32(model: str, cast_whole: int) -> None:
    """Measured with every parameter in bfloat16 and rotary tables in float32."""
    transformer = facts_for(model).component("transformer")
    assert transformer.bytes("bfloat16") == cast_whole + 2 * transformer.float32_elements
    assert transformer.bytes("float32") == 4 * transformer.elements + transformer.buffer_bytes


def test_what_could_not_be_counted_is_marked_and_said() -> None:
    mova = facts_for("OpenMOSS-Team/MOVA-360p")
    classes = {c.name: c.class_name for c in mova.components}
    assert set(mova.unchecked) == {
        name for name, class_name in classes.items() if class_name in WITHOUT_CLASS
    }
    assert any("unchecked" in note for note in mova.notes)
    others = {m: facts_for(m).unchecked for m in PUBLISHED if "MOVA" not in m}
    assert {m for m, names in others.items() if names} == {
        "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
        "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers",
    }


def test_demo_facts_are_those_of_the_folder_in_the_image() -> None:
    assert facts_for("demo").components == facts_from_folder(DEMO).components
    assert facts_for("demo").denoise == facts_from_folder(DEMO).denoise


def test_unknown_id_names_the_known_ones() -> None:
    with pytest.raises(UnknownModel, match=r"'nobody/none'; known are demo, Qwen/Qwen-Image, .*Wan-AI"):
        facts_for("nobody/none")
