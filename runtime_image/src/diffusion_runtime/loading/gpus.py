"""Which GPUs does the driver show? Asked through NVML, so that the parent process needs no torch."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_runtime.planning.documents import Execution

from .refusal import EngineRefusal


@dataclass(frozen=True)
class DriverGpu:
    """One GPU as the driver names it, with its bytes."""

    name: str
    total_bytes: int
    free_bytes: int


def check_devices(execution: Execution) -> None:
    """EngineRefusal (NoUsableGpu) when a cuda plan meets too few usable GPUs; a cpu plan passes."""
    if execution.device != "cuda":
        return
    count = len(driver_gpus())
    if count < execution.gpus_per_replica:
        raise EngineRefusal(
            "NoUsableGpu",
            f"The plan needs {execution.gpus_per_replica} CUDA GPU(s), the driver shows {count}; there is no "
            "fall-back to the CPU: set performance.device: cpu to compute there.",
        )


def driver_gpus() -> list[DriverGpu]:
    """What NVML lists; empty where there is no driver.

    EngineRefusal (NoUsableGpu) when there is a driver but it does not answer, as for a lost GPU.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return []
    try:
        indices = range(pynvml.nvmlDeviceGetCount())
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in indices]
        return [
            _gpu(pynvml.nvmlDeviceGetName(handle), pynvml.nvmlDeviceGetMemoryInfo(handle))
            for handle in handles
        ]
    except pynvml.NVMLError as error:
        raise EngineRefusal("NoUsableGpu", f"The driver does not describe its GPUs: {error}.") from error
    finally:
        pynvml.nvmlShutdown()


def _gpu(name: str, memory: object) -> DriverGpu:
    return DriverGpu(name, int(memory.total), int(memory.free))  # type: ignore[attr-defined]
