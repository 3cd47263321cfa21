"""`diffusion-runtime plan`: GPUs of this machine, --compare, --plot, --calibrations and the smaller flags."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from diffusion_runtime.cli import main
from diffusion_runtime.planning.documents import Plan

QWEN = ["plan", "--model-path", "Qwen/Qwen-Image"]
GIB = 2**30


Install = Callable[["FakeNvml"], None]


class NvmlError(Exception):
    """What NVML raises."""


class FakeNvml(ModuleType):
    """The functions of pynvml that are used, for GPUs given as (name, total, free)."""

    NVMLError = NvmlError

    def __init__(self, *gpus: tuple[str, int, int], works: bool = True, mig: bool = False) -> None:
        super().__init__("pynvml")
        self.gpus, self.works, self.mig, self.open = gpus, works, mig, 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.works:
            raise NvmlError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetMigMode(self, handle: int) -> list[int]:  # noqa: N802
        if not self.mig:
            raise NvmlError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: int) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: int, index: int) -> int:  # noqa: N802
        if index:
            raise NvmlError("Not Found")
        return handle

    def nvmlDeviceGetName(self, handle: int) -> str:  # noqa: N802
        return self.gpus[handle][0]

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(total=self.gpus[handle][1], free=self.gpus[handle][2])

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return "580.95"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """install(FakeNvml(...)) puts it where pynvml is looked for, and checks that it was closed."""
    installed: list[FakeNvml] = []

    def put(fake: FakeNvml) -> None:
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        installed.append(fake)

    yield put
    assert all(fake.open == 0 for fake in installed)


def planned(capsys: pytest.CaptureFixture[str], *flags: str) -> Plan:
    """The plan that the command prints."""
    assert main([*QWEN, "--output", "json", *flags]) == 0
    return Plan.model_validate_json(capsys.readouterr().out)


def test_gpus_of_this_machine_are_read_from_the_driver(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install(FakeNvml(("NVIDIA H200", 150 * 10**9, 150 * 10**9), ("NVIDIA H200", 150 * 10**9, 20 * GIB)))
    found = planned(capsys, "--num-gpus", "2")
    assert found.gpu_product == "NVIDIA-H200"
    assert found.memory.free_per_gpu_bytes == 20 * GIB


def test_only_gpus_that_cuda_sees_are_planned_for(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    install(FakeNvml(("NVIDIA H200", 150 * 10**9, 150 * 10**9), ("NVIDIA H200", 150 * 10**9, 20 * GIB)))
    assert planned(capsys).memory.free_per_gpu_bytes == 20 * GIB
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert main(QWEN) == 2
    assert "no NVIDIA GPU that CUDA_VISIBLE_DEVICES= shows" in capsys.readouterr().err


def test_the_planner_picks_how_many_of_them(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(FakeNvml(*[("NVIDIA H200", 150 * 10**9, 149 * 10**9)] * 2))
    assert planned(capsys).gpus_per_replica == 2
    assert planned(capsys, "--guidance-scale", "1").gpus_per_replica == 1


def test_mig_slices_take_the_place_of_a_cut_gpu(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(FakeNvml(("NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40 * GIB, 39 * GIB), mig=True))
    found = planned(capsys, "--mode", "memory")
    assert found.gpu_product is not None
    assert "3g.40gb" in found.gpu_product
    assert found.gpus_per_replica == 1


def test_without_a_driver_it_says_what_to_do(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(FakeNvml(works=False))
    assert main(QWEN) == 2
    assert (
        "No NVIDIA driver answers on this machine (Driver Not Loaded); name the GPUs"
        in capsys.readouterr().err
    )


def test_without_gpus_it_says_so(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(FakeNvml())
    assert main(QWEN) == 2
    assert "has no NVIDIA GPU; name the GPUs" in capsys.readouterr().err


def test_without_nvml_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert main(QWEN) == 2
    assert "nvidia-ml-py, which reads this machine's GPUs, is not installed" in capsys.readouterr().err


def test_mode_is_short_for_performance_mode(capsys: pytest.CaptureFixture[str]) -> None:
    short, long = (
        planned(capsys, "--gpu", "L40S", flag, "memory") for flag in ("--mode", "--performance-mode")
    )
    assert short == long
    assert short.mode == "memory"


def test_flags_of_generate_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    plain = planned(capsys, "--gpu", "L40S")
    assert planned(capsys, "--gpu", "L40S", "--prompt", "a cat", "--seed", "3", "--offline") == plain


def test_compare_shows_every_mode(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QWEN, "--gpu", "L40S", "--gpu", "L40S", "--compare", "--performance-bias", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["manual", "auto", "speed", "memory", "bias", "0.5"]
    rows = {line[:10].strip(): line for line in lines}
    assert {"GPUs", "layout", "weights", "peak", "request", "hash"} <= set(rows)
    assert "over)" in rows["peak"]
    assert main([*QWEN, "--gpu", "L40S", "--compare", "--output", "json"]) == 0
    documents = json.loads(capsys.readouterr().out)
    assert list(documents) == ["auto", "manual", "memory", "speed"]
    assert documents["memory"]["mode"] == "memory"


def test_compare_says_which_mode_has_no_plan(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*QWEN, "--gpu", "H200:free=8GiB", "--compare"]) == 0
    rows = {line[:10].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert "missing" in rows["GPUs"]
    assert main([*QWEN, "--gpu", "T4", "--compare"]) == 3
    assert "has no bfloat16" in capsys.readouterr().err


def test_plot_writes_a_picture(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "front.png"
    assert main([*QWEN, "--gpu", "L40S", "--performance-bias", "0.4", "--plot", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    assert file.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--plot", "front.svg"], "only PNG is drawn"),
        (["--plot", "/nowhere/at/all/front.png"], "there is no folder /nowhere/at/all"),
        (["--plot", "front.png", "--compare"], "give one of them"),
        (["--calibrations", "/nowhere/at/all"], "is not a folder"),
        (["--fsdp-blocks-per-unit", "99"], "has 60 blocks: use 1 to 60"),
    ],
)
def test_what_cannot_be_done_is_said_first(
    capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    assert main([*QWEN, "--gpu", "L40S", *flags]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err


def test_plot_without_matplotlib(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*QWEN, "--gpu", "L40S", "--plot", "front.png"]) == 2
    assert "pip install 'diffusion-runtime[plot]'" in capsys.readouterr().err


def test_calibrations_are_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    document = planned(capsys, "--gpu", "H200").to_dict()
    keys = ("gpusPerReplica", "device", "layout", "residency", "dtype", "compile", "attention", "vae")
    calibration = {
        "model": "Qwen/Qwen-Image",
        "gpuProduct": "H200",
        "execution": {key: document[key] for key in keys},
        "shape": document["shapes"][0],
        "guidance": True,
        "versions": {"engine": "0.0.1"},
        "peakPerGpuBytes": 61 * GIB,
        "perForwardSeconds": 0.1,
        "perStepSeconds": 0.2,
        "perRequestSeconds": 11.0,
    }
    (tmp_path / "one.json").write_text(json.dumps(calibration))
    found = planned(capsys, "--gpu", "H200", "--calibrations", str(tmp_path))
    assert (found.source, found.time.per_request_seconds) == ("calibrated", 11.0)
    assert any("engine" in warning and "(measured with 0.0.1)" in warning for warning in found.warnings)
