"""Compiled kernels are kept by engine, torch and GPU, in the temporary folder or on a volume."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest

from diffusion_runtime.loading import compile_cache
from diffusion_runtime.loading.compile_cache import VARIABLE, cache_key, compile_environment
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.documents import CompileSettings
from engine.plans import cpu_execution

COMPILED = cpu_execution(compile=CompileSettings(enabled=True))
PRODUCT = "NVIDIA H100 80GB HBM3"


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache.shutil, "which", lambda name: f"/usr/bin/{name}")


def test_the_key_has_all_that_kernels_depend_on() -> None:
    engine, torch = version("diffusion-runtime"), version("torch")
    assert cache_key(PRODUCT) == f"engine-{engine}_torch-{torch}_nvidia-h100-80gb-hbm3"
    assert cache_key(PRODUCT) != cache_key("NVIDIA H200")


def test_a_mounted_folder_is_used(tmp_path: Path) -> None:
    variables = compile_environment(COMPILED, PRODUCT, {VARIABLE: str(tmp_path / "volume")})
    folder = tmp_path / "volume" / cache_key(PRODUCT)
    assert variables == {
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
    }
    assert folder.is_dir()


def test_the_temporary_folder_is_used_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    variables = compile_environment(COMPILED, "cpu", {})
    assert variables["TRITON_CACHE_DIR"] == str(tmp_path / "diffusion-compile" / cache_key("cpu") / "triton")


def test_what_the_user_set_stays(tmp_path: Path) -> None:
    own = {VARIABLE: str(tmp_path), "TRITON_CACHE_DIR": "/mine"}
    assert compile_environment(COMPILED, PRODUCT, own)["TRITON_CACHE_DIR"] == "/mine"


def test_nothing_is_made_when_nothing_is_compiled(tmp_path: Path) -> None:
    assert compile_environment(cpu_execution(), PRODUCT, {VARIABLE: str(tmp_path / "volume")}) == {}
    assert not (tmp_path / "volume").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EngineRefusal, match="cannot be written; see DIFFUSION_COMPILE_CACHE") as refused:
        compile_environment(COMPILED, PRODUCT, {VARIABLE: str(tmp_path / "file")})
    assert refused.value.reason == "InvalidSpec"


def test_an_image_without_a_compiler_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_cache.shutil, "which", lambda _: None)
    with pytest.raises(EngineRefusal, match=r"needs a C\+\+ compiler") as refused:
        compile_environment(COMPILED, PRODUCT, {})
    assert refused.value.reason == "LayoutUnsupported"
