"""Finds the facts of a model: by a known id without any network or file, or from a local folder's headers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from diffusion_runtime.models import demo, flux, ltx_2, mova, qwen_image, wan, z_image
from diffusion_runtime.models import wan_published as wans
from diffusion_runtime.models.family import Family
from diffusion_runtime.models.folder import count_folder, read_index
from diffusion_runtime.models.inventory import Inventory
from diffusion_runtime.planning.documents import ModelRef, Shape
from diffusion_runtime.planning.errors import BadModelFolder, UnknownModel
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.parity import without_failed

FAMILIES: tuple[Family, ...] = (
    qwen_image.FAMILY, wan.FAMILY, z_image.FAMILY, flux.FAMILY, ltx_2.FAMILY, mova.FAMILY,
)  # fmt: skip

_Build = Callable[[Inventory, ModelRef, Shape | None], ModelFacts]
PUBLISHED: dict[str, tuple[str, Inventory, _Build, Shape]] = {
    "Qwen/Qwen-Image": (
        qwen_image.NAME, qwen_image.QWEN_IMAGE, qwen_image.build, qwen_image.DEFAULT_SHAPE,
    ),
    "Qwen/Qwen-Image-Edit": (
        qwen_image.NAME, qwen_image.QWEN_IMAGE_EDIT, qwen_image.build, qwen_image.DEFAULT_SHAPE,
    ),
    "Wan-AI/Wan2.1-T2V-1.3B-Diffusers": (wan.NAME, wans.WAN_T2V_1_3B, wan.build, wan.DEFAULT_SHAPE),
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": (wan.NAME, wans.WAN_T2V_14B, wan.build, wan.DEFAULT_SHAPE),
    "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers": (wan.NAME, wans.WAN_I2V_14B, wan.build, wan.DEFAULT_SHAPE),
    "Wan-AI/Wan2.1-I2V-14B-720P-Diffusers": (wan.NAME, wans.WAN_I2V_14B, wan.build, wan.SHAPE_720P),
    "Wan-AI/Wan2.2-T2V-A14B-Diffusers": (wan.NAME, wans.WAN_2_2_T2V_A14B, wan.build, wan.SHAPE_720P),
    "Wan-AI/Wan2.2-I2V-A14B-Diffusers": (wan.NAME, wans.WAN_2_2_I2V_A14B, wan.build, wan.SHAPE_720P),
    "Wan-AI/Wan2.2-TI2V-5B-Diffusers": (wan.NAME, wans.WAN_2_2_TI2V_5B, wan.build, wan.SHAPE_5B),
    "Tongyi-MAI/Z-Image": (z_image.NAME, z_image.Z_IMAGE, z_image.build, z_image.DEFAULT_SHAPE),
    "Tongyi-MAI/Z-Image-Turbo": (z_image.NAME, z_image.Z_IMAGE, z_image.turbo, z_image.TURBO_SHAPE),
    "black-forest-labs/FLUX.1-dev": (flux.NAME, flux.FLUX_1_DEV, flux.build, flux.DEFAULT_SHAPE),
    "Lightricks/LTX-2": (ltx_2.NAME, ltx_2.LTX_2, ltx_2.build, ltx_2.DEFAULT_SHAPE),
    "OpenMOSS-Team/MOVA-360p": (mova.NAME, mova.MOVA, mova.build, mova.SHAPE_360P),
    "OpenMOSS-Team/MOVA-720p": (mova.NAME, mova.MOVA, mova.build, mova.SHAPE_720P),
}  # fmt: skip
"""Model id -> family, inventory, function from inventory to facts, default shape."""

NOT_DRAWN = {mova.MOVA.pipeline: mova.NOT_DRAWN}
"""Pipelines that are planned for but have no code to draw with, and why."""


def known_models() -> tuple[str, ...]:
    """Ids with built-in facts."""
    return (demo.MODEL_ID, *PUBLISHED)


@cache
def facts_for(model_id: str) -> ModelFacts:
    """Built-in facts. Raises UnknownModel naming the known ids."""
    if model_id == demo.MODEL_ID:
        return without_failed(demo.demo_facts())
    if model_id not in PUBLISHED:
        raise UnknownModel(
            f"No built-in facts for model {model_id!r}; known are {', '.join(known_models())}."
        )
    family, inventory, build, shape = PUBLISHED[model_id]
    return without_failed(
        build(inventory, ModelRef(name=model_id, family=family, source="huggingFace"), shape)
    )


def family_named(name: str) -> Family:
    """The family of that name. Raises UnknownModel naming the known families."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise UnknownModel(f"No model family {name!r}; known are {', '.join(f.name for f in FAMILIES)}.")


def facts_from_folder(path: Path) -> ModelFacts:
    """Facts of a local diffusers folder, from configs and headers only. Raises BadModelFolder."""
    return without_failed(claims_of_folder(path))


def claims_of_folder(path: Path) -> ModelFacts:
    """The same, with what failed parity: for the run that finds it out."""
    index = read_index(path)
    pipeline = index.get("_class_name")
    family = next((f for f in FAMILIES if pipeline in f.pipelines), None)
    if family is None and pipeline in NOT_DRAWN:
        raise BadModelFolder(f"{path / 'model_index.json'} is a {pipeline}: {NOT_DRAWN[pipeline]}.")
    if family is None:
        known = ", ".join(name for f in FAMILIES for name in f.pipelines)
        raise BadModelFolder(
            f"{path / 'model_index.json'} is a {pipeline}; pipelines that are served: {known}."
        )
    model = ModelRef(name=path.name or str(path), family=family.name, source="path", path=str(path))
    try:
        return family.build(count_folder(path, family, index), model, None)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        if isinstance(error, BadModelFolder):
            raise
        raise BadModelFolder(f"A config.json in {path} lacks or misstates {error}.") from error
