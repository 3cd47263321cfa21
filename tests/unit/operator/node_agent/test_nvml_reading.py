"""What the agent reads through pynvml, and what it makes of drivers and GPUs that do not answer."""

from __future__ import annotations

from collections.abc import Iterator

import pynvml
import pytest

from builders.fake_nvml import GIB, FakeGpu
from diffusion_operator.node_agent.nvml import Links, Memory, Nvml, NvmlMissing, NvmlUnavailable
from unit.operator.node_agent.conftest import ShowGpus

LOST, UNKNOWN = 15, 999


@pytest.fixture
def nvml() -> Iterator[Nvml]:
    reader = Nvml()
    yield reader
    reader.close()


def test_every_gpu_with_its_memory_and_links(show_gpus: ShowGpus, nvml: Nvml) -> None:
    show_gpus([FakeGpu("GPU-a", 3 * GIB), FakeGpu("GPU-b"), FakeGpu("GPU-c", mig=2)], nvlinks=[(0, 1)])
    reading = nvml.read()
    assert reading.driver_version == "580.95.05"
    assert [gpu.uuid for gpu in reading.gpus] == ["GPU-a", "GPU-b", "GPU-c"]
    assert reading.gpus[0].product == "NVIDIA A100-SXM4-80GB"
    assert reading.gpus[0].memory == Memory(80 * GIB, GIB // 2, 3 * GIB)
    assert [gpu.links for gpu in reading.gpus] == [
        Links(4, 16, 16, (1,)),
        Links(4, 16, 16, (0,)),
        Links(4, 16, 16, ()),
    ]
    assert not any(gpu.mig or gpu.problem for gpu in reading.gpus)


def test_use_is_read_anew(show_gpus: ShowGpus, nvml: Nvml) -> None:
    for used in (0, 5 * GIB):
        show_gpus([FakeGpu("GPU-a", used)])
        memory = nvml.read().gpus[0].memory
        assert memory is not None
        assert memory.used_bytes == used


def test_drivers_that_do_not_tell_the_reserve_apart(show_gpus: ShowGpus, nvml: Nvml) -> None:
    show_gpus([FakeGpu("GPU-a", 3 * GIB)], only_first_memory_call=True)
    assert nvml.read().gpus[0].memory == Memory(80 * GIB, 0, 3 * GIB + GIB // 2)


def test_a_sliced_gpu_is_marked(show_gpus: ShowGpus, nvml: Nvml) -> None:
    show_gpus([FakeGpu("GPU-a", mig=1)])
    assert nvml.read().gpus[0].mig


@pytest.mark.parametrize("error", [{"handle_error": LOST}, {"memory_error": LOST}])
def test_one_lost_gpu_does_not_hide_the_others(
    show_gpus: ShowGpus, nvml: Nvml, error: dict[str, int]
) -> None:
    show_gpus([FakeGpu("GPU-a", **error), FakeGpu("GPU-b", GIB)], nvlinks=[(0, 1)])
    lost, well = nvml.read().gpus
    assert (lost.memory, lost.problem) == (None, "GPU is lost")
    assert well.memory == Memory(80 * GIB, GIB // 2, GIB)
    show_gpus([FakeGpu("GPU-a"), FakeGpu("GPU-b", GIB)])
    assert [gpu.problem for gpu in nvml.read().gpus] == [None, None]


def test_a_gpu_that_vanished_is_gone_from_the_next_reading(show_gpus: ShowGpus, nvml: Nvml) -> None:
    show_gpus([FakeGpu("GPU-a"), FakeGpu("GPU-b")])
    assert len(nvml.read().gpus) == 2
    show_gpus([FakeGpu("GPU-a")])
    assert [gpu.uuid for gpu in nvml.read().gpus] == ["GPU-a"]


def test_links_that_the_driver_does_not_tell_are_left_out(show_gpus: ShowGpus, nvml: Nvml) -> None:
    show_gpus([FakeGpu("GPU-a", pcie=(0, 0, 0))])
    assert nvml.read().gpus[0].links == Links()


def test_a_driver_that_comes_later_is_found(show_gpus: ShowGpus, nvml: Nvml) -> None:
    with pytest.raises(NvmlUnavailable, match="driver does not answer: Driver Not Loaded"):
        nvml.read()
    show_gpus([FakeGpu("GPU-a")])
    assert len(nvml.read().gpus) == 1


def test_a_driver_that_fails_is_said(show_gpus: ShowGpus, nvml: Nvml) -> None:
    show_gpus([FakeGpu("GPU-a")], init_error=UNKNOWN)
    with pytest.raises(NvmlUnavailable, match="driver does not answer: Unknown Error"):
        nvml.read()


def test_a_missing_library_names_the_setting_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, nvml: Nvml
) -> None:
    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", no_library)
    with pytest.raises(NvmlMissing, match=r"libnvidia-ml.so.1 is not in this container.*runtimeClassName"):
        nvml.read()
