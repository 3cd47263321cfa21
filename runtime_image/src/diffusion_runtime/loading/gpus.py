"""Which GPUs does the driver show? Asked through NVML, so that the parent process needs no torch."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from diffusion_runtime.planning.devices import device_from_product
from diffusion_runtime.planning.documents import Execution, Plan

from .refusal import EngineRefusal

VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class DriverGpu:
    """One GPU as the driver names it, with its bytes and the driver's version."""

    name: str
    total_bytes: int
    free_bytes: int
    driver_version: str = ""


def check_devices(execution: Execution) -> list[DriverGpu]:
    """The GPUs that the ranks will use, in rank order; none for a cpu plan.

    EngineRefusal (NoUsableGpu) when a cuda plan meets too few of them.
    """
    if execution.device != "cuda":
        return []
    gpus = driver_gpus()
    if len(gpus) < execution.gpus_per_replica:
        raise EngineRefusal(
            "NoUsableGpu",
            f"The plan needs {execution.gpus_per_replica} CUDA GPU(s), the driver shows {len(gpus)}; there "
            "is no fall-back to the CPU: set performance.device: cpu to compute there.",
        )
    return gpus[: execution.gpus_per_replica]


def check_product(plan: Plan, gpus: list[DriverGpu]) -> None:
    """EngineRefusal (PlanMismatch) when the plan is for another GPU product. A slice counts as its GPU."""
    if plan.gpu_product is None:
        return
    planned = _short_name(plan.gpu_product, 1)
    for gpu in gpus:
        found = _short_name(gpu.name, gpu.total_bytes)
        if found != planned:
            raise EngineRefusal(
                "PlanMismatch", f"The plan is for {plan.gpu_product} but the driver shows a {gpu.name}."
            )


def driver_gpus() -> list[DriverGpu]:
    """What NVML lists, MIG slices in place of the GPUs that are cut, as far as CUDA_VISIBLE_DEVICES lets CUDA
    see it; empty where there is no driver.

    EngineRefusal (NoUsableGpu) when there is a driver but it does not answer, as for a lost GPU.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        driver = str(pynvml.nvmlSystemGetDriverVersion())
        indices = range(pynvml.nvmlDeviceGetCount())
        gpus = [_Handles(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)) for index in indices]
        return [_gpu(pynvml, handle, driver) for handle in _visible(pynvml, gpus)]
    except pynvml.NVMLError as error:
        raise EngineRefusal("NoUsableGpu", f"The driver does not describe its GPUs: {error}.") from error
    finally:
        pynvml.nvmlShutdown()


class _Handles:
    """One GPU and what computes on it: itself, or its MIG slices."""

    def __init__(self, nvml: Any, gpu: Any) -> None:
        self.gpu = gpu
        self.parts = _parts(nvml, gpu)


def _parts(nvml: Any, gpu: Any) -> list[Any]:
    try:
        cut = nvml.nvmlDeviceGetMigMode(gpu)[0]
    except nvml.NVMLError:  # a GPU that knows no MIG
        return [gpu]
    if not cut:
        return [gpu]
    parts = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        with suppress(nvml.NVMLError):  # that place is not taken
            parts.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
    return parts


def _visible(nvml: Any, gpus: list[_Handles]) -> list[Any]:
    """CUDA ends its list at the first entry that it does not find, and so do we. Of a cut GPU that is named
    by number or by its own id it takes the first slice.
    """
    listed = os.environ.get(VISIBLE)
    if listed is None:
        return [part for gpu in gpus for part in gpu.parts]
    seen: list[Any] = []
    for word in (word.strip() for word in listed.split(",")):
        if word.startswith("MIG-"):
            slices = [part for gpu in gpus for part in gpu.parts if part is not gpu.gpu]
            matches = [part for part in slices if nvml.nvmlDeviceGetUUID(part).startswith(word)]
        else:
            by_id = word.startswith("GPU-")
            matches = [
                part
                for index, gpu in enumerate(gpus)
                if (nvml.nvmlDeviceGetUUID(gpu.gpu).startswith(word) if by_id else word == str(index))
                for part in gpu.parts[:1]
            ]
        if not matches:
            break
        seen += matches[:1]
    return seen


def _gpu(nvml: Any, handle: Any, driver: str) -> DriverGpu:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return DriverGpu(str(nvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.free), driver)


def _short_name(product: str, memory_bytes: int) -> str:
    """The planner's name of a product, without the size of a slice."""
    return device_from_product(product, memory_bytes=memory_bytes).name.split("-MIG-")[0].lower()
