"""Which files of a repository a diffusers pipeline is loaded from: configs, tokenizers, safetensors.

Never pickles, never code, no folders but those that model_index.json lists and what the family takes beside
them. Files of a variant are written under their plain names, since a folder holds one variant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import PurePosixPath
from typing import Any

from diffusion_runtime.models.catalog import FAMILIES
from diffusion_runtime.models.family import Family
from diffusion_runtime.planning.errors import BadRequest

from .source import RemoteFile, RemoteModel

INDEX = "model_index.json"
TEXTS = (".json", ".txt", ".model", ".jinja")
BASES = ("diffusion_pytorch_model", "model")
LARGEST_JSON_BYTES = 64 * 2**20
ReadWhole = Callable[[RemoteFile], bytes]


def choose(model: RemoteModel, read: ReadWhole, variant: str | None) -> dict[str, RemoteFile]:
    """Path in the folder to be written -> file. Raises BadRequest naming what is missing."""
    if INDEX not in model.files:
        raise BadRequest("modelPath", f"{model.name} is no diffusers pipeline: it has no {INDEX}.")
    index = read_json(model.files[INDEX], read)
    family = _family(model, index)
    chosen = {INDEX: model.files[INDEX]}
    for name in (*_listed(index), *_beside(model, index, family)):
        inside = {path: file for path, file in model.files.items() if path.startswith(f"{name}/")}
        chosen |= {path: file for path, file in inside.items() if path.endswith(TEXTS) and not _index(path)}
        chosen |= _weights(model, name, inside, read, variant)
    if variant is not None and not any(f".{variant}" in file.path for file in chosen.values()):
        offered = ", ".join(_variants(model.files)) or "none"
        raise BadRequest("variant", f"{model.name} has no variant {variant!r}; it has: {offered}.")
    return chosen


def read_json(file: RemoteFile, read: ReadWhole) -> dict[str, Any]:
    """A JSON object. Raises BadRequest."""
    if file.size > LARGEST_JSON_BYTES:
        raise BadRequest("modelPath", f"{file.path} is too large for a JSON file of a model.")
    try:
        document = json.loads(read(file))
    except (ValueError, RecursionError) as error:
        raise BadRequest("modelPath", f"{file.path} is not JSON.") from error
    if not isinstance(document, dict):
        raise BadRequest("modelPath", f"{file.path} is not a JSON object.")
    return document


def _family(model: RemoteModel, index: dict[str, Any]) -> Family:
    for family in FAMILIES:
        if index.get("_class_name") in family.pipelines:
            return family
    known = [name for family in FAMILIES for name in family.pipelines]
    raise BadRequest(
        "modelPath",
        f"{model.name} is a {index.get('_class_name')}; pipelines that are served: {', '.join(known)}.",
    )


def _listed(index: dict[str, Any]) -> list[str]:
    return [
        name
        for name, entry in index.items()
        if not name.startswith("_") and isinstance(entry, list) and any(entry)
    ]


def _beside(model: RemoteModel, index: dict[str, Any], family: Family) -> list[str]:
    """Parts of the family that the repository has and its index does not list."""
    parts = (name for name, rule in family.components.items() if rule.beside and name not in index)
    return [name for name in parts if f"{name}/config.json" in model.files]


def _weights(
    model: RemoteModel,
    component: str,
    inside: dict[str, RemoteFile],
    read: ReadWhole,
    variant: str | None,
) -> dict[str, RemoteFile]:
    """The shards that an index names, or the one file; of the variant, else the plain ones."""
    for wanted in (variant, None) if variant else (None,):
        for base in BASES:
            index = f"{component}/{base}.safetensors.index{f'.{wanted}' if wanted else ''}.json"
            if index in inside:
                return {f"{component}/{base}.safetensors.index.json": inside[index]} | _shards(
                    model, component, inside[index], read
                )
            single = f"{component}/{base}{f'.{wanted}' if wanted else ''}.safetensors"
            if single in inside:
                return {f"{component}/{base}.safetensors": inside[single]}
    pickles = sorted(path for path in inside if path.endswith((".bin", ".pt", ".pth", ".ckpt", ".msgpack")))
    if pickles:
        raise BadRequest(
            "modelPath",
            f"{model.name} has the weights of {component} only as {pickles[0]}; only safetensors are loaded.",
        )
    return {}


def _shards(model: RemoteModel, component: str, index: RemoteFile, read: ReadWhole) -> dict[str, RemoteFile]:
    weight_map = read_json(index, read).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadRequest(
            "modelPath", f"{index.path} of {model.name} has no weight_map from tensors to files."
        )
    paths = sorted({f"{component}/{shard}" for shard in weight_map.values()})
    for path in paths:
        if path not in model.files:
            raise BadRequest("modelPath", f"{model.name} lacks {path}, which {index.path} names.")
        if PurePosixPath(path).parent != PurePosixPath(component) or not path.endswith(".safetensors"):
            raise BadRequest("modelPath", f"{index.path} of {model.name} names {path}, no safetensors file.")
    return {path: model.files[path] for path in paths}


def _index(path: str) -> bool:
    return ".safetensors.index" in path or path.endswith(".bin.index.json")


def _variants(paths: Iterable[str]) -> list[str]:
    found = (re.search(r"/(?:diffusion_pytorch_)?model\.([^./-]+)[.-].*safetensors$", path) for path in paths)
    indexed = (re.search(r"\.safetensors\.index\.([^./]+)\.json$", path) for path in paths)
    return sorted({match[1] for match in (*found, *indexed) if match})
