"""Reads the GPUs of this node through NVML: what they are, how much memory is used, how they are linked.

One GPU that does not answer is reported with its problem and never hides the others. Nothing is written and
no process is looked at: process ids of other containers mean nothing here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pynvml

logger = logging.getLogger(__name__)
T = TypeVar("T")


class NvmlMissing(Exception):
    """The NVIDIA library is not in this container; only a new container can have it."""


class NvmlUnavailable(Exception):
    """The library is there but the driver does not answer now; asking again later may help."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU. `reserved` is the driver's own share; `used` leaves it out."""

    total_bytes: int
    reserved_bytes: int
    used_bytes: int


@dataclass(frozen=True)
class Links:
    """How a GPU is connected. None is what the driver does not tell.

    The PCIe generation is the highest that GPU and slot share, since an idle GPU steps down to save power.
    `nvlink_peers` are indices of GPUs reached over NVLink, directly or through a switch.
    """

    pcie_generation: int | None = None
    pcie_width: int | None = None
    pcie_max_width: int | None = None
    nvlink_peers: tuple[int, ...] = ()


@dataclass(frozen=True)
class GpuReading:
    """One GPU. `memory` is None exactly when `problem` says why nothing more is known."""

    index: int
    uuid: str = ""
    product: str = ""
    memory: Memory | None = None
    mig: bool = False
    links: Links = field(default_factory=Links)
    problem: str | None = None


@dataclass(frozen=True)
class NvmlReading:
    """All GPUs in the driver's order."""

    driver_version: str
    gpus: tuple[GpuReading, ...]


class Nvml:
    """Keeps the library open between readings and opens it again after any error.

    Opening it each time would wake GPUs that have no persistence daemon. Not thread-safe.
    """

    def __init__(self) -> None:
        self._open = False
        self._links: dict[str, Links] = {}

    def read(self) -> NvmlReading:
        """One reading. Raises NvmlMissing or NvmlUnavailable, each with a sentence."""
        try:
            if not self._open:
                pynvml.nvmlInit()
                self._open = True
                self._links = {}
            reading = self._read()
        except pynvml.NVMLError as error:
            self.close()
            raise _refusal(error) from error
        if any(gpu.problem for gpu in reading.gpus):
            # A GPU that came back, or is gone for good, shows only after the library was opened anew.
            self.close()
        return reading

    def close(self) -> None:
        """Close the library; a later reading opens it again."""
        if self._open:
            self._open = False
            try:
                pynvml.nvmlShutdown()
            except pynvml.NVMLError as error:
                logger.warning("closing NVML: %s", error)

    def _read(self) -> NvmlReading:
        version = str(pynvml.nvmlSystemGetDriverVersion())
        handles = [_handle(index) for index in range(pynvml.nvmlDeviceGetCount())]
        gpus = tuple(self._gpu(index, handles) for index in range(len(handles)))
        return NvmlReading(version, gpus)

    def _gpu(self, index: int, handles: list[Any]) -> GpuReading:
        handle = handles[index]
        if isinstance(handle, pynvml.NVMLError):
            return GpuReading(index, problem=str(handle))
        uuid, product = "", ""
        try:
            uuid, product = str(pynvml.nvmlDeviceGetUUID(handle)), str(pynvml.nvmlDeviceGetName(handle))
            memory = _memory(handle)
            # Links do not change while the library is open, and asking is quadratic in the GPUs.
            if uuid not in self._links:
                self._links[uuid] = _links(index, handles)
        except pynvml.NVMLError as error:
            return GpuReading(index, uuid, product, problem=str(error))
        mig = (_told(lambda: pynvml.nvmlDeviceGetMigMode(handle)) or [0])[0] == pynvml.NVML_DEVICE_MIG_ENABLE
        return GpuReading(index, uuid, product, memory, mig, self._links[uuid])


def _handle(index: int) -> Any:
    """The handle, or the error in its place: a lost GPU has no handle."""
    try:
        return pynvml.nvmlDeviceGetHandleByIndex(index)
    except pynvml.NVMLError as error:
        return error


def _memory(handle: Any) -> Memory:
    """The second version tells the driver's reserve apart; drivers before 510 know only the first."""
    try:
        info = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
    except (pynvml.NVMLError_FunctionNotFound, pynvml.NVMLError_NotSupported):
        info = pynvml.nvmlDeviceGetMemoryInfo(handle)
        return Memory(int(info.total), 0, int(info.used))
    return Memory(int(info.total), int(info.reserved), int(info.used))


def _links(index: int, handles: list[Any]) -> Links:
    handle = handles[index]
    peers = tuple(
        other
        for other, peer in enumerate(handles)
        if other != index and not isinstance(peer, pynvml.NVMLError) and _linked(handle, peer)
    )
    return Links(
        pcie_generation=_told(lambda: pynvml.nvmlDeviceGetMaxPcieLinkGeneration(handle)),
        pcie_width=_told(lambda: pynvml.nvmlDeviceGetCurrPcieLinkWidth(handle)),
        pcie_max_width=_told(lambda: pynvml.nvmlDeviceGetMaxPcieLinkWidth(handle)),
        nvlink_peers=peers,
    )


def _linked(handle: Any, peer: Any) -> bool:
    status = _told(lambda: pynvml.nvmlDeviceGetP2PStatus(handle, peer, pynvml.NVML_P2P_CAPS_INDEX_NVLINK))
    return bool(status == pynvml.NVML_P2P_STATUS_OK)


def _told(ask: Callable[[], T]) -> T | None:
    """The answer, or None where this GPU or driver has none."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None


def _refusal(error: pynvml.NVMLError) -> NvmlMissing | NvmlUnavailable:
    if isinstance(error, pynvml.NVMLError_LibraryNotFound):
        return NvmlMissing(
            "libnvidia-ml.so.1 is not in this container: the node has no NVIDIA driver, or the pod does not "
            "run under the NVIDIA container runtime (chart value nodeAgent.runtimeClassName)"
        )
    return NvmlUnavailable(f"the NVIDIA driver does not answer: {error}")
