"""Finds the facts of a model: by a known id without any network or file, or from a local folder's headers."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

from diffusion_runtime.models import demo, qwen_image, wan
from diffusion_runtime.models.family import Family
from diffusion_runtime.models.folder import count_folder, read_index
from diffusion_runtime.planning.documents import ModelRef
from diffusion_runtime.planning.errors import BadModelFolder, UnknownModel
from diffusion_runtime.planning.facts import ModelFacts

FAMILIES: tuple[Family, ...] = (qwen_image.FAMILY, wan.FAMILY)


def _qwen_image() -> ModelFacts:
    model = ModelRef(name="Qwen/Qwen-Image", family=qwen_image.NAME, source="huggingFace")
    return qwen_image.build(qwen_image.QWEN_IMAGE, model)


def _wan_t2v_14b() -> ModelFacts:
    model = ModelRef(name="Wan-AI/Wan2.1-T2V-14B-Diffusers", family=wan.NAME, source="huggingFace")
    return wan.build(wan.WAN_T2V_14B, model)


_KNOWN: dict[str, Callable[[], ModelFacts]] = {
    demo.MODEL_ID: demo.demo_facts,
    "Qwen/Qwen-Image": _qwen_image,
    "Wan-AI/Wan2.1-T2V-14B-Diffusers": _wan_t2v_14b,
}


def known_models() -> tuple[str, ...]:
    """Ids with built-in facts."""
    return tuple(_KNOWN)


@cache
def facts_for(model_id: str) -> ModelFacts:
    """Built-in facts. Raises UnknownModel naming the known ids."""
    if model_id not in _KNOWN:
        raise UnknownModel(f"No built-in facts for model {model_id!r}; known are {', '.join(_KNOWN)}.")
    return _KNOWN[model_id]()


def family_named(name: str) -> Family:
    """The family of that name. Raises UnknownModel naming the known families."""
    for family in FAMILIES:
        if family.name == name:
            return family
    raise UnknownModel(f"No model family {name!r}; known are {', '.join(f.name for f in FAMILIES)}.")


def facts_from_folder(path: Path) -> ModelFacts:
    """Facts of a local diffusers folder, from configs and headers only. Raises BadModelFolder."""
    index = read_index(path)
    pipeline = index.get("_class_name")
    family = next((f for f in FAMILIES if pipeline in f.pipelines), None)
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
