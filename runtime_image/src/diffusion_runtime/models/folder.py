"""Counts a local diffusers folder: model_index.json, configs and safetensors headers, never the weights.

Whatever keeps the folder from being a loadable pipeline of a known family ends in BadModelFolder with one
sentence that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusion_runtime.models.blocks import find_blocks
from diffusion_runtime.models.family import ComponentRule, Family
from diffusion_runtime.models.inventory import Inventory, Part
from diffusion_runtime.models.safetensors_header import TensorEntry, read_header
from diffusion_runtime.planning.errors import BadModelFolder
from diffusion_runtime.planning.facts import BlockGroup

_BASENAMES = ("diffusion_pytorch_model", "model")
_LARGEST_JSON_BYTES = 64 * 2**20


def read_index(folder: Path) -> dict[str, Any]:
    """The folder's model_index.json."""
    if not folder.is_dir():
        raise BadModelFolder(f"{folder} is not a folder.")
    if not (folder / "model_index.json").is_file():
        raise BadModelFolder(f"{folder} is no diffusers pipeline: model_index.json is missing.")
    return _json(folder / "model_index.json")


def count_folder(folder: Path, family: Family, index: Mapping[str, Any]) -> Inventory:
    """Inventory of every weighty component. Raises BadModelFolder."""
    parts = []
    for name, rule in family.components.items():
        entry, told_by = index.get(name), folder / "model_index.json"
        if rule.beside and name not in index and is_beside(folder / name):
            told_by = folder / name / "config.json"
            entry = ["", class_of(folder / name)]
        if rule.optional and entry in (None, [None, None]):
            continue
        if not isinstance(entry, list) or len(entry) != 2 or not all(isinstance(word, str) for word in entry):
            raise BadModelFolder(f"{told_by} names no {name}, which {family.name} needs.")
        if entry[1] not in rule.classes:
            raise BadModelFolder(
                f"{told_by} gives {name} the class {entry[1]}; {family.name} takes "
                f"{' or '.join(rule.classes)}."
            )
        parts.append(_part(folder / name, name, entry[1], rule))
    return Inventory(pipeline=str(index["_class_name"]), parts=tuple(parts))


def is_beside(part: Path) -> bool:
    """Whether a part that model_index.json does not list is in its folder all the same."""
    return (part / "config.json").is_file()


def class_of(part: Path) -> str:
    """The class that a part's own config.json names."""
    return str(_json(part / "config.json").get("_class_name"))


def _part(folder: Path, name: str, class_name: str, rule: ComponentRule) -> Part:
    config = _json(folder / "config.json")
    tensors = component_tensors(folder)
    counted = {key: t for key, t in tensors.items() if rule.tied.get(key) not in tensors}
    kept = {key: t.elements for key, t in counted.items() if set(key.split(".")) & set(rule.kept_float32)}
    blocks = tuple(_blocks(path, counted, kept) for path in _block_paths(rule, counted))
    if rule.layers_keys:
        _check_layers(folder, config, rule.layers_keys, sum(group.count for group in blocks if group))
    elements = sum(tensor.elements for tensor in counted.values())
    if not elements:
        raise BadModelFolder(f"{folder} holds no weights for {name}.")
    return Part(
        name=name,
        class_name=class_name,
        config=config,
        elements=elements,
        float32_elements=sum(kept.values()),
        blocks=tuple(group for group in blocks if group is not None),
        stored_bytes=sum(tensor.stored_bytes for tensor in tensors.values()),
    )


def _block_paths(rule: ComponentRule, tensors: Mapping[str, TensorEntry]) -> tuple[str, ...]:
    """Only transformers are sharded and streamed, so only theirs are looked for."""
    if rule.kind != "transformer":
        return ()
    elements = {key: tensor.elements for key, tensor in tensors.items()}
    return find_blocks(elements, explicit=rule.block_paths, block_classes=rule.block_classes).paths


def _blocks(path: str, tensors: Mapping[str, TensorEntry], kept: Mapping[str, int]) -> BlockGroup | None:
    """Repeated entries `path.0`, `path.1`, … as one group, sized by the largest."""
    sizes: dict[str, list[int]] = {}
    for key, tensor in tensors.items():
        head, _, rest = key.removeprefix(path + ".").partition(".")
        if key.startswith(path + ".") and head.isdigit() and rest:
            block = sizes.setdefault(head, [0, 0])
            block[0] += tensor.elements
            block[1] += kept.get(key, 0)
    if not sizes:
        return None
    largest = max(sizes.values())
    return BlockGroup(path=path, count=len(sizes), elements=largest[0], float32_elements=largest[1])


def _check_layers(folder: Path, config: Mapping[str, Any], keys: tuple[str, ...], found: int) -> None:
    told = [config.get(key) for key in keys]
    if sum(count if isinstance(count, int) else 0 for count in told) != found:
        words = " + ".join(f"{key} = {count}" for key, count in zip(keys, told, strict=True))
        raise BadModelFolder(f"{folder / 'config.json'} says {words}, but the weights hold {found} blocks.")


def component_tensors(folder: Path) -> dict[str, TensorEntry]:
    """All tensors of a component: one file, or the shards that its index names."""
    for base in _BASENAMES:
        index = folder / f"{base}.safetensors.index.json"
        if index.is_file():
            return _sharded(folder, index)
        single = folder / f"{base}.safetensors"
        if single.exists():
            return read_header(single)
    others = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt", ".safetensors"))
    hint = f"; it holds {', '.join(others[:3])}" if others else ""
    expected = " or ".join(f"{base}.safetensors" for base in _BASENAMES)
    raise BadModelFolder(f"{folder} has neither {expected} nor an index of shards{hint}.")


def _sharded(folder: Path, index: Path) -> dict[str, TensorEntry]:
    weight_map = _json(index).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(v, str) for v in weight_map.values())
    ):
        raise BadModelFolder(f"{index} has no weight_map from tensors to files.")
    tensors: dict[str, TensorEntry] = {}
    for shard in sorted(set(weight_map.values())):
        if Path(shard).name != shard or not shard.endswith(".safetensors"):
            raise BadModelFolder(f"{index} names {shard!r}, which is no safetensors file beside it.")
        if not (folder / shard).exists():
            raise BadModelFolder(f"{folder / shard} is missing, but {index.name} names it.")
        tensors |= read_header(folder / shard)
    absent = next((name for name in weight_map if name not in tensors), None)
    if absent is not None:
        raise BadModelFolder(f"{index} promises tensor {absent!r}, which no shard holds.")
    return {name: tensors[name] for name in weight_map}


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_JSON_BYTES:
            raise BadModelFolder(f"{path} is too large for a JSON file of a model.")
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadModelFolder(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise BadModelFolder(f"{path} is not JSON.") from error
    if not isinstance(document, dict):
        raise BadModelFolder(f"{path} is not a JSON object.")
    return document
