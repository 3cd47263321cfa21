"""What this machine has: its GPUs and free bytes as the driver sees them, and the versions that would run.

Only NVML is asked (module pynvml, an optional dependency). No GPU context is made and no torch imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from diffusion_runtime.planning.calibrations import Versions
from diffusion_runtime.planning.devices import Device, device_from_product
from diffusion_runtime.planning.errors import UnknownHardware

_INSTEAD = "name the GPUs to plan for, for example --gpu H200 --gpu H200:free=20GiB"


def gpus_here() -> tuple[Device, ...]:
    """Every GPU of this machine, MIG slices in place of the GPUs that are cut. Raises UnknownHardware."""
    with _nvml() as nvml:
        found = tuple(
            _device(nvml, handle)
            for index in range(nvml.nvmlDeviceGetCount())
            for handle in _parts(nvml, nvml.nvmlDeviceGetHandleByIndex(index))
        )
    if not found:
        raise UnknownHardware(f"This machine has no NVIDIA GPU; {_INSTEAD}.")
    return found


def versions_here(*, driver: bool) -> Versions:
    """Installed engine and torch; the driver's version too when this machine's GPUs are planned for."""
    return Versions(
        engine=_installed("diffusion-runtime"),
        torch=_installed("torch"),
        driver=_driver() if driver else None,
    )


@contextmanager
def _nvml() -> Iterator[Any]:
    try:
        nvml = import_module("pynvml")
    except ImportError as error:
        raise UnknownHardware(
            "No --gpu is given and nvidia-ml-py, which reads this machine's GPUs, is not installed; "
            f"{_INSTEAD}."
        ) from error
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise UnknownHardware(
            f"No --gpu is given and no NVIDIA driver answers on this machine ({error}); {_INSTEAD}."
        ) from error
    try:
        yield nvml
    except nvml.NVMLError as error:
        raise UnknownHardware(
            f"The NVIDIA driver does not describe this machine ({error}); {_INSTEAD}."
        ) from error
    finally:
        nvml.nvmlShutdown()


def _parts(nvml: Any, handle: Any) -> list[Any]:
    """The GPU itself, or its MIG devices."""
    try:
        cut = nvml.nvmlDeviceGetMigMode(handle)[0]
    except nvml.NVMLError:  # a GPU that knows no MIG
        return [handle]
    if not cut:
        return [handle]
    parts = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            parts.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except nvml.NVMLError:  # that place is not taken
            continue
    return parts


def _device(nvml: Any, handle: Any) -> Device:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    device = device_from_product(str(nvml.nvmlDeviceGetName(handle)), memory_bytes=int(memory.total))
    return device.model_copy(update={"free_bytes": min(int(memory.free), device.total_bytes)})


def _driver() -> str | None:
    try:
        with _nvml() as nvml:
            return str(nvml.nvmlSystemGetDriverVersion())
    except UnknownHardware:
        return None


def _installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
