"""The fake NVML library behind the real pynvml, in this process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path

import pynvml
import pytest

from builders.fake_nvml import STATE_VARIABLE, FakeGpu, build_fake_nvml, fake_nvml_state, write_state

ShowGpus = Callable[..., None]


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled library; a machine without a C compiler fails here with a sentence."""
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def show_gpus(nvml_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShowGpus:
    """Call it with GPUs to make the driver show them; before the first call no driver is loaded."""
    state = tmp_path / "nvml-state"
    monkeypatch.setenv(STATE_VARIABLE, str(state))
    # pynvml keeps the library and its functions in the module; other tests get back what they had.
    monkeypatch.setattr(pynvml, "nvmlLib", ctypes.CDLL(str(nvml_library)))
    monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})

    def show(gpus: Sequence[FakeGpu], **more: object) -> None:
        write_state(state, fake_nvml_state(gpus, **more))  # type: ignore[arg-type]

    return show
