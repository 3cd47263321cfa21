"""Weights read straight into place are, bit for bit, what each library's own loader gives; every class."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_runtime.loading import component
from diffusion_runtime.loading.component import open_component
from diffusion_runtime.loading.record import LoadRecord
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.documents import Residency
from diffusion_runtime.residency.placement import place
from engine.small_components import DIFFUSERS, TRANSFORMERS, write_component

CPU = torch.device("cpu")
CLASSES = [*DIFFUSERS, *TRANSFORMERS]
CONVERTS = "Qwen3MoeModel"
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)")]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """One folder per class, stored in float32; those of diffusers in shards with an index."""
    folders = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in CLASSES:
            folder = tmp_path_factory.mktemp(name)
            shards = {"max_shard_size": "20KB"} if name in DIFFUSERS else {}
            folders[name] = (folder, write_component(name, folder, **shards))
    return folders


def loaded(folder: Path, cls: Any, dtype: torch.dtype) -> torch.nn.Module:
    module, fill = open_component(folder, cls, dtype, LoadRecord())
    place(module, Residency(mode="resident"), CPU, fill)
    return module


def reference(folder: Path, cls: Any, dtype: torch.dtype) -> torch.nn.Module:
    module: torch.nn.Module = cls.from_pretrained(
        str(folder), local_files_only=True, use_safetensors=True, dtype=dtype
    )
    return module


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Every parameter and buffer, tied ones under all of their names."""
    named = dict(module.named_parameters(remove_duplicate=False))
    return named | dict(module.named_buffers(remove_duplicate=False))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("name", CLASSES)
def test_same_bits_as_the_librarys_own_loader(
    name: str, dtype: torch.dtype, written: dict[str, tuple[Path, Any]]
) -> None:
    folder, cls = written[name]
    ours, theirs = loaded(folder, cls, dtype), reference(folder, cls, dtype)
    found, expected = tensors_of(ours), tensors_of(theirs)
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype, key
        assert found[key].shape == tensor.shape, key
        assert torch.equal(found[key], tensor), key
        assert found[key].device == CPU
    assert shared(ours) == shared(theirs)
    assert not ours.training
    assert not any(parameter.requires_grad for parameter in ours.parameters())


def shared(module: torch.nn.Module) -> set[frozenset[str]]:
    """Sets of names that are one parameter."""
    names: dict[int, set[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), set()).add(name)
    return {frozenset(group) for group in names.values() if len(group) > 1}


@pytest.mark.parametrize("name", CLASSES)
def test_only_a_class_that_converts_goes_through_its_own_loader(
    name: str, written: dict[str, tuple[Path, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    monkeypatch.setattr(component, "_through_own_loader", lambda *_: used.append(True) or (None, None))
    open_component(*written[name], torch.bfloat16, LoadRecord())
    assert bool(used) == (name == CONVERTS)


def test_names_that_older_versions_wrote(tmp_path: Path) -> None:
    """Published Qwen2.5-VL files say `model.layers` and `visual`; the class says `model.language_model`."""
    from safetensors.torch import load_file, save_file

    cls = write_component("Qwen2_5_VLForConditionalGeneration", tmp_path)
    file = tmp_path / "model.safetensors"
    old = {
        key.replace("model.language_model.", "model.").replace("model.visual.", "visual."): tensor
        for key, tensor in load_file(file).items()
    }
    assert any(key.startswith("model.layers.") for key in old)
    save_file(old, file, metadata={"format": "pt"})
    ours, theirs = (make(tmp_path, cls, torch.bfloat16) for make in (loaded, reference))
    for key, tensor in tensors_of(theirs).items():
        assert torch.equal(tensors_of(ours)[key], tensor), key


def test_both_names_of_a_tie_with_different_bytes_are_two_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    cls = write_component("UMT5EncoderModel", tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    weights["encoder.embed_tokens.weight"] = weights["shared.weight"] + 1
    save_file(weights, file, metadata={"format": "pt"})
    ours, theirs = (make(tmp_path, cls, torch.float32) for make in (loaded, reference))
    assert shared(ours) == shared(theirs) == set()
    for key, tensor in tensors_of(theirs).items():
        assert torch.equal(tensors_of(ours)[key], tensor), key


@pytest.mark.parametrize("change", ["missing", "unexpected", "mismatched"])
def test_files_that_do_not_fit_the_class_are_refused(tmp_path: Path, change: str) -> None:
    from safetensors.torch import load_file, save_file

    cls = write_component("FluxTransformer2DModel", tmp_path)
    file = tmp_path / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    if change == "missing":
        del weights["x_embedder.weight"]
    elif change == "unexpected":
        weights["y_embedder.weight"] = torch.zeros(1)
    else:
        weights["x_embedder.weight"] = weights["x_embedder.weight"].T.contiguous()
    save_file(weights, file, metadata={"format": "pt"})
    key = "y_embedder" if change == "unexpected" else "x_embedder"
    with pytest.raises(EngineRefusal, match=rf"FluxTransformer2DModel: {change} keys {key}.weight\.$"):
        open_component(tmp_path, cls, torch.bfloat16, LoadRecord())
