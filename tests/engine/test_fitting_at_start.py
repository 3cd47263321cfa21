"""Before ranks start the plan is held against the memory that is really free: plan, fallback or refusal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from diffusion_runtime.cli import main
from diffusion_runtime.loading import gpus as driver
from diffusion_runtime.loading.fitting import choose_start
from diffusion_runtime.loading.gpus import DriverGpu, check_devices, check_product, driver_gpus
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.documents import Plan
from engine.fake_group import REQUEST, fake_engine
from engine.plans import cpu_execution, plan_for

GIB = 2**30
NAME = "NVIDIA H200"


def gpu(free_gib: float, name: str = NAME) -> DriverGpu:
    return DriverGpu(name, 140 * GIB, int(free_gib * GIB), "590.1")


def cuda_plan(peaks_gib: Sequence[float], hosts_gib: Sequence[float] = (0, 0, 0), gpus: int = 1) -> Plan:
    """A plan and fallbacks with these peaks and host needs; fallbacks offload, the plan does not."""
    execution = cpu_execution(cfg=gpus, device="cuda")
    others = tuple(cpu_execution(cfg=gpus, device="cuda", mode="component") for _ in peaks_gib[1:])
    plan = plan_for(execution, fallbacks=others, gpu_product="NVIDIA-H200")
    memory = plan.memory.model_copy(
        update={"peak_per_gpu_bytes": int(peaks_gib[0] * GIB), "free_per_gpu_bytes": 100 * GIB}
    )
    fallbacks = tuple(
        fallback.model_copy(
            update={
                "peak_per_gpu_bytes": int(peak * GIB),
                "host_bytes": int(host * GIB),
                "hash": f"fallback{peak}",
            }
        )
        for fallback, peak, host in zip(plan.fallbacks, peaks_gib[1:], hosts_gib[1:], strict=False)
    )
    return plan.model_copy(update={"memory": memory, "fallbacks": fallbacks})


def test_the_plan_is_followed_where_it_fits() -> None:
    plan = cuda_plan([58, 20])
    start = choose_start(plan, [gpu(58)], None)
    assert start.executions == (plan, *plan.fallbacks)
    assert start.why is None


def test_the_first_fallback_that_fits_is_taken_and_the_least_free_gpu_decides() -> None:
    plan = cuda_plan([58, 30, 12], gpus=2)
    start = choose_start(plan, [gpu(140), gpu(20)], 500 * GIB)
    assert start.executions == (plan.fallbacks[1],)
    assert start.why == "58.0GiB per GPU are needed, GPU 1 (NVIDIA H200) has 20.0GiB of 140.0GiB free"


def test_a_fallback_that_the_host_cannot_hold_is_passed_over() -> None:
    plan = cuda_plan([58, 30, 12], hosts_gib=[0, 60, 25])
    assert choose_start(plan, [gpu(40)], 30 * GIB).executions == (plan.fallbacks[1],)


def test_nothing_fits_is_refused_with_numbers() -> None:
    plan = cuda_plan([58, 30], hosts_gib=[0, 60])
    with pytest.raises(EngineRefusal) as refused:
        choose_start(plan, [gpu(40)], 10 * GIB)
    assert refused.value.reason == "InsufficientMemory"
    assert (refused.value.bytes_asked, refused.value.bytes_free) == (58 * GIB, 40 * GIB)
    assert refused.value.message == (
        "The plan does not fit: 58.0GiB per GPU are needed, GPU 0 (NVIDIA H200) has 40.0GiB of 140.0GiB free."
        " Nor do its 1 fallbacks; for the last one 60.0GiB of host memory are needed with offloaded weights,"
        " this container may still take 10.0GiB."
    )


def test_a_shortfall_that_was_planned_is_the_users_choice() -> None:
    """Mode speed never rejects for memory: it warned when it planned."""
    plan = cuda_plan([120, 30])
    assert choose_start(plan, [gpu(100)], None).executions[0] is plan


def test_a_cpu_plan_has_a_gpus_forecast_and_is_followed() -> None:
    plan = plan_for(cpu_execution())
    assert choose_start(plan, [], 0).executions == (plan,)


def test_serve_refuses_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "driver_gpus", lambda: [gpu(40)])
    (tmp_path / "plan.json").write_text(cuda_plan([58]).to_json())
    flags = ["--host", "127.0.0.1", "--port", "0", "--management-port", "0"]
    flags += ["--termination-log", str(tmp_path / "last.json")]
    assert main(["serve", "--plan", str(tmp_path / "plan.json"), *flags]) == 2
    words = json.loads((tmp_path / "last.json").read_text())
    assert (words["reason"], words["phase"]) == ("InsufficientMemory", "start")
    assert (words["bytesAsked"], words["bytesFree"]) == (58 * GIB, 40 * GIB)


async def test_the_report_says_which_fallback_and_why(tmp_path: Path) -> None:
    plan = cuda_plan([58, 30])
    engine = fake_engine(tmp_path, plan, [{}], start=choose_start(plan, [gpu(40)], 500 * GIB))
    running = asyncio.create_task(engine.run())
    await engine.submit([REQUEST]).result
    report = engine.report
    assert (report.plan_hash, report.executing_hash) == (plan.hash, "fallback30")
    assert report.executing_reason == (
        "58.0GiB per GPU are needed, GPU 0 (NVIDIA H200) has 40.0GiB of 140.0GiB free"
    )
    assert report.planned is not None
    assert report.planned.peak_per_gpu_bytes == report.planned_peak_per_gpu_bytes == 30 * GIB
    engine.drain()
    await running


@pytest.mark.parametrize(
    ("planned", "found", "same"),
    [
        ("NVIDIA-H200", "NVIDIA H200", True),
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA H100 80GB HBM3", True),
        ("NVIDIA-H200-SHARED", "NVIDIA H200", True),
        ("NVIDIA-H200", "NVIDIA H100 80GB HBM3", False),
        ("NVIDIA-A100-SXM4-40GB", "NVIDIA A100-SXM4-80GB", False),
    ],
)
def test_a_plan_for_other_hardware_is_refused(planned: str, found: str, same: bool) -> None:
    plan = cuda_plan([1]).model_copy(update={"gpu_product": planned})
    if same:
        check_product(plan, [gpu(100, found)])
        return
    with pytest.raises(EngineRefusal) as refused:
        check_product(plan, [gpu(100, found)])
    assert refused.value.reason == "PlanMismatch"
    assert refused.value.message == f"The plan is for {planned} but the driver shows a {found}."


def driver_answers(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any], visible: str | None) -> None:
    """A driver with these answers beside the usual ones, under this CUDA_VISIBLE_DEVICES."""
    import pynvml

    usual: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "590.1",
        "nvmlDeviceGetName": str,
        "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(total=2, free=1),
    }
    for name, answer in (usual | answers).items():
        monkeypatch.setattr(pynvml, name, answer)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, ["a", "b", "c"]),
        ("1", ["b"]),
        ("2,0", ["c", "a"]),
        ("GPU-c", ["c"]),
        ("0,9,1", ["a"]),
        ("", []),
    ],
)
def test_only_gpus_that_cuda_sees_count(
    visible: str | None, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: dict[str, Any] = {
        "nvmlDeviceGetCount": lambda: 3,
        "nvmlDeviceGetHandleByIndex": "abc".__getitem__,
        "nvmlDeviceGetUUID": lambda handle: f"GPU-{handle}",
    }
    driver_answers(monkeypatch, answers, visible)
    assert [found.name for found in driver_gpus()] == seen


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, ["a-0", "a-1", "b"]),
        ("0", ["a-0"]),
        ("GPU-a", ["a-0"]),
        ("MIG-a-1", ["a-1"]),
        ("MIG-a-1,1", ["a-1", "b"]),
        ("MIG-gone", []),
    ],
)
def test_slices_take_the_place_of_a_cut_gpu(
    visible: str | None, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import pynvml

    def slice_of(gpu: str, index: int) -> str:
        if index > 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return f"{gpu}-{index}"

    answers: dict[str, Any] = {
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": "ab".__getitem__,
        "nvmlDeviceGetMigMode": lambda gpu: [int(gpu == "a"), 0],
        "nvmlDeviceGetMaxMigDeviceCount": lambda _: 7,
        "nvmlDeviceGetMigDeviceHandleByIndex": slice_of,
        "nvmlDeviceGetUUID": lambda handle: f"{'MIG' if '-' in handle else 'GPU'}-{handle}",
    }
    driver_answers(monkeypatch, answers, visible)
    assert [found.name for found in driver_gpus()] == seen


def test_the_gpus_of_the_ranks_are_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "driver_gpus", lambda: [gpu(1, "a"), gpu(2, "b")])
    assert [found.name for found in check_devices(cpu_execution(device="cuda"))] == ["a"]
