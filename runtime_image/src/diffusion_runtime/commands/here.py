"""What this machine has: its GPUs and free bytes as the driver sees them, and the versions that would run.

Only NVML is asked (module pynvml, an optional dependency). No GPU context is made and no torch imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from diffusion_runtime.loading.gpus import VISIBLE, DriverGpu, driver_gpus
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.calibrations import Versions
from diffusion_runtime.planning.devices import Device, device_from_product
from diffusion_runtime.planning.errors import UnknownHardware

PLAN_FOR_OTHERS = "name the GPUs to plan for, for example --gpu H200 --gpu H200:free=20GiB"


def gpus_here(instead: str = PLAN_FOR_OTHERS) -> tuple[Device, ...]:
    """The GPUs that ranks on this machine would find, MIG slices in place of the GPUs that are cut.

    Raises UnknownHardware, which says what to do `instead`.
    """
    with _nvml(instead):
        try:
            found = driver_gpus()
        except EngineRefusal as refusal:
            raise UnknownHardware(f"{refusal.message.removesuffix('.')}; {instead}.") from refusal
    if not found:
        hidden = f" that {VISIBLE}={os.environ[VISIBLE]} shows" if VISIBLE in os.environ else ""
        raise UnknownHardware(f"This machine has no NVIDIA GPU{hidden}; {instead}.")
    return tuple(_device(gpu) for gpu in found)


def versions_here(*, driver: bool) -> Versions:
    """Installed engine and torch; the driver's version too when this machine's GPUs are planned for."""
    return Versions(
        engine=_installed("diffusion-runtime"),
        torch=_installed("torch"),
        driver=_driver() if driver else None,
    )


@contextmanager
def _nvml(instead: str) -> Iterator[Any]:
    try:
        nvml = import_module("pynvml")
    except ImportError as error:
        raise UnknownHardware(
            f"nvidia-ml-py, which reads this machine's GPUs, is not installed; {instead}."
        ) from error
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise UnknownHardware(f"No NVIDIA driver answers on this machine ({error}); {instead}.") from error
    try:
        yield nvml
    except nvml.NVMLError as error:
        raise UnknownHardware(
            f"The NVIDIA driver does not describe this machine ({error}); {instead}."
        ) from error
    finally:
        nvml.nvmlShutdown()


def _device(gpu: DriverGpu) -> Device:
    """The product is written as node labels write it."""
    device = device_from_product(gpu.name.replace(" ", "-"), memory_bytes=gpu.total_bytes)
    return device.model_copy(update={"free_bytes": min(gpu.free_bytes, device.total_bytes)})


def _driver() -> str | None:
    try:
        with _nvml(PLAN_FOR_OTHERS) as nvml:
            return str(nvml.nvmlSystemGetDriverVersion())
    except UnknownHardware:
        return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
