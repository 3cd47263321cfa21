"""One component without storage, and the call that fills it from its safetensors files.

The class is built with parameters on the meta device; buffers are computed by the class as always, since
many (rotary tables) are in no file. Names, ties and dtypes follow the libraries' own loaders, and tests hold
both to the same bits. Where a class converts weights while loading (stacked experts), its own loader runs
and fills from memory: slower, and the component is whole on the host meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights

from diffusion_runtime.models.folder import component_tensors
from diffusion_runtime.models.safetensors_header import TensorEntry
from diffusion_runtime.storage import Fill, Target, put

from .folder import BROKEN_FOLDER
from .reading import Read, read_all
from .record import LoadRecord
from .refusal import EngineRefusal

META = torch.device("meta")
STORED_DTYPE: dict[str, torch.dtype] = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "U8": torch.uint8, "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip


def open_component(
    folder: Path, cls: Any, dtype: torch.dtype, record: LoadRecord
) -> tuple[torch.nn.Module, Fill]:
    """A module of `cls` with parameters on the meta device and buffers on the CPU, and what fills them.

    `cls` is a model class of diffusers or transformers; the folder's own word on it was checked before.
    Raises EngineRefusal when the files lack weights of the class, bring others, or other shapes.
    """
    stored = component_tensors(folder)
    with record.stage("build"):
        module, dtypes = _build(folder, cls, dtype)
        sources = _sources(module, cls, folder, stored)
    if sources is None:
        return _through_own_loader(folder, cls, dtype, record)
    with record.stage("build"):
        _set_dtypes(module, dtypes)

    def fill(targets: Sequence[Target]) -> None:
        reads = [_read(sources[name], tensor, first_row) for name, tensor, first_row in targets]
        with record.stage("read"):
            read_all(reads, record.add)

    fill([(name, buffer, 0) for name, buffer in module.named_buffers() if name in sources])
    module.requires_grad_(False)
    return module.eval(), fill


def fill_from_memory(tensors: Mapping[str, torch.Tensor]) -> Fill:
    """A `Fill` whose weights are in memory already."""

    def fill(targets: Sequence[Target]) -> None:
        with torch.no_grad():
            for name, tensor, first_row in targets:
                rows = (
                    tensors[name][first_row : first_row + tensor.shape[0]] if tensor.ndim else tensors[name]
                )
                tensor.copy_(rows)

    return fill


def _is_diffusers(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == "diffusers"


def _read(source: TensorEntry, target: torch.Tensor, first_row: int) -> Read:
    row_bytes = source.stored_bytes // source.shape[0] if source.shape and source.shape[0] else 0
    offset = source.offset + first_row * row_bytes
    return Read(source.path, offset, STORED_DTYPE[source.dtype], target)


def _build(folder: Path, cls: Any, dtype: torch.dtype) -> tuple[torch.nn.Module, dict[str, torch.dtype]]:
    """The module, and the dtype that the library's loader would give each parameter and stored buffer."""
    if _is_diffusers(cls):
        config = cls.load_config(str(folder), local_files_only=True)
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with init_empty_weights(include_buffers=False):
                module = cls.from_config(config)
        finally:
            torch.set_default_dtype(before)
        kept = cls._keep_in_fp32_modules or []
        return module, {
            name: torch.float32 if set(name.split(".")) & set(kept) else dtype
            for name, tensor in module.state_dict().items()
            if tensor.is_floating_point()
        }
    config = cls.config_class.from_pretrained(str(folder), local_files_only=True)
    with init_empty_weights(include_buffers=False):
        module = cls._from_config(config, dtype=dtype)
    module.tie_weights()  # accelerate's context gives every use of a shared parameter its own
    return module, _planned_dtypes(module, dtype)


def _planned_dtypes(module: Any, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """What a transformers class keeps in another dtype; everything else is as it was built."""
    from transformers.core_model_loading import build_glob_alternation

    plan = module._get_dtype_plan(dtype)
    if not plan:
        return {}
    any_pattern, pattern_of, _ = build_glob_alternation(list(plan))
    matches = {name: any_pattern.search(name) for name in module.state_dict()}
    return {name: plan[pattern_of[match.lastgroup]] for name, match in matches.items() if match}


def _set_dtypes(module: torch.nn.Module, dtypes: Mapping[str, torch.dtype]) -> None:
    put(
        module,
        {
            name: torch.empty(p.shape, dtype=dtypes.get(name, p.dtype), device=META)
            for name, p in module.named_parameters()
        },
    )
    for name, buffer in module.named_buffers():
        if name in dtypes and buffer.dtype != dtypes[name]:
            owner, _, key = name.rpartition(".")
            module.get_submodule(owner)._buffers[key] = buffer.to(dtypes[name])


def _sources(
    module: torch.nn.Module, cls: Any, folder: Path, stored: Mapping[str, TensorEntry]
) -> dict[str, TensorEntry] | None:
    """Parameter and stored buffer -> where it lies. None when the class converts weights while loading."""
    state = module.state_dict()
    if _is_diffusers(cls):
        named: dict[str, TensorEntry] = dict(stored)
        module._fix_state_dict_keys_on_load(named)  # type: ignore[operator]
    else:
        renamed = _renamed(module, state, list(stored))
        if renamed is None:
            return None
        named = {renamed[name]: entry for name, entry in stored.items()}
    found = {name: named[name] for name in state if name in named}
    _spread_ties(module, found)
    missing = [name for name in state if name not in found]
    unexpected = [name for name in named if name not in state]
    ignored = _ignored(module)
    problems = {
        "missing keys": [n for n in missing if not _any(ignored["missing"], n)],
        "unexpected keys": [n for n in unexpected if not _any(ignored["unexpected"], n)],
        "mismatched keys": [n for n, entry in found.items() if entry.shape != tuple(state[n].shape)],
    }
    for words, names in problems.items():
        if names:
            raise EngineRefusal(BROKEN_FOLDER, f"{folder} does not fit {cls.__name__}: {words} {min(names)}.")
    return found


def _renamed(module: Any, state: Mapping[str, Any], names: Sequence[str]) -> dict[str, str] | None:
    """Stored name -> name in the class, by transformers' rules. None when a rule does more than rename."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    rules = get_model_conversion_mapping(module)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    renamed = {}
    for name in names:
        new, converter = rename_source_key(name, renamings, converters, module.base_model_prefix, state)
        if converter is not None:
            return None
        if new not in state and name in state:
            new = name
        renamed[name] = new
    return renamed


def _spread_ties(module: torch.nn.Module, found: dict[str, TensorEntry]) -> None:
    """A tied parameter that is stored under one of its names is found under all. Others stay missing.

    Stored under several names with different bytes it is not tied, whatever the config says.
    """
    names_of: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names_of.setdefault(id(parameter), []).append(name)
    for names in names_of.values():
        stored = [name for name in names if name in found]
        if len(names) == 1 or not stored:
            continue
        for name in stored[1:]:
            if not _same_bytes(found[stored[0]], found[name]):
                _untie(module, name)
        for name in names:
            found.setdefault(name, found[stored[0]])


def _same_bytes(one: TensorEntry, other: TensorEntry) -> bool:
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    pair = [torch.empty(one.shape, dtype=STORED_DTYPE[one.dtype]) for _ in range(2)]
    read_all([_read(entry, into, 0) for entry, into in zip((one, other), pair, strict=True)])
    return torch.equal(pair[0], pair[1])


def _untie(module: torch.nn.Module, name: str) -> None:
    owner, _, key = name.rpartition(".")
    parameters = module.get_submodule(owner)._parameters
    tied = parameters[key]
    assert tied is not None  # noqa: S101  # named_parameters listed it
    parameters[key] = torch.nn.Parameter(torch.empty_like(tied), requires_grad=False)


def _ignored(module: Any) -> dict[str, list[str]]:
    """Patterns of names that the class itself allows to be missing or unexpected."""
    unexpected = list(getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ())
    missing = list(getattr(module, "_keys_to_ignore_on_load_missing", None) or ())
    if not _is_diffusers(type(module)):  # tables that older checkpoints stored
        buffers = [name for name, _ in module.named_buffers()]
        if any(name.endswith("rotary_emb.inv_freq") for name in buffers):
            unexpected.append(r"rotary_emb\.inv_freq")
        if any(name.endswith("position_ids") for name in buffers):
            unexpected.append(r"(^|\.)position_ids$")
    return {"missing": missing, "unexpected": unexpected}


def _any(patterns: Sequence[str], name: str) -> bool:
    return any(re.search(pattern, name) for pattern in patterns)


def _through_own_loader(
    folder: Path, cls: Any, dtype: torch.dtype, record: LoadRecord
) -> tuple[torch.nn.Module, Fill]:
    """The library's `from_pretrained`; then parameters go to the meta device and are filled from memory."""
    with record.stage("read"):
        module, info = cls.from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=dtype,
        )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info.get(kind):
            words = kind.replace("_", " ")
            first = min(str(key) for key in info[kind])
            raise EngineRefusal(BROKEN_FOLDER, f"{folder} does not fit {cls.__name__}: {words} {first}.")
    module.requires_grad_(False)
    weights = {name: parameter.data for name, parameter in module.named_parameters()}
    put(module, {name: tensor.to(META) for name, tensor in weights.items()})
    record.add(sum(tensor.nbytes for tensor in weights.values()))
    return module.eval(), fill_from_memory(weights)
