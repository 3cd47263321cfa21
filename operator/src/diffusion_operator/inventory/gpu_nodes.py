"""What node agents reported, and how much of a GPU that leaves for a pod.

A report counts only while the very pod that wrote it is Ready; without one, labels and requests decide alone.
The kubelet gives out GPUs, not the operator: a new pod may get any GPU of a node that nobody holds, so it can
count on the least-free of them and no more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_operator.inventory.objects import Pod
from diffusion_operator.inventory.requests import BadObject, part

Raw = Mapping[str, Any]

EXACT_TO_BYTES = 512 * 1024 * 1024
"""Agents write no smaller moves, so finer numbers would only make plans differ for nothing."""
HOST_EXACT_TO_BYTES = 1024**3


@dataclass(frozen=True, slots=True)
class ReportedGpu:
    """One readable, unsliced GPU. `holders` are "namespace/name" of pods, as the kubelet named them."""

    uuid: str
    total_bytes: int
    reserved_bytes: int
    foreign_bytes: int
    holders: tuple[str, ...] = ()

    @property
    def free_bytes(self) -> int:
        """What pods may use: all but the driver's own and foreign bytes, rounded down."""
        free = max(0, self.total_bytes - self.reserved_bytes - self.foreign_bytes)
        return free - free % EXACT_TO_BYTES


@dataclass(frozen=True, slots=True)
class GpuNodeReport:
    """One GPUNode. `unreadable` counts GPUs with a problem; `host_free_bytes` is None when not told."""

    node: str
    reporter_uid: str
    gpus: tuple[ReportedGpu, ...] = ()
    host_free_bytes: int | None = None
    unreadable: int = 0


@dataclass(frozen=True, slots=True)
class MeasuredRoom:
    """Bytes of a node's GPUs for one owner: of each GPU that its own pods hold, and of the least-free other.

    `open_bytes` is None when the report shows no GPU that is held by nobody.
    """

    own_bytes: tuple[int, ...] = ()
    open_bytes: int | None = None

    @property
    def least_bytes(self) -> int | None:
        """What a pod that replaces the owner's pods is sure to find, whichever GPU it gets."""
        known = [*self.own_bytes, *(() if self.open_bytes is None else (self.open_bytes,))]
        return min(known, default=None)

    def fitting(self, free: int, needed_bytes: int) -> int:
        """How many of `free` usable GPUs go on holding pods that need so much: own pods stay where they are.

        A pod that runs has shown that it can, by a fallback if need be. GPUs that no report describes yet are
        taken to have room, as without a report.
        """
        roomy = self.open_bytes is None or self.open_bytes >= needed_bytes
        return free if roomy else min(free, len(self.own_bytes))


def parse_gpu_node(raw: Raw) -> GpuNodeReport:
    """Projection of a GPUNode; unknown fields are skipped. Raises BadObject for numbers that are none."""
    name, status = str(part(raw, "metadata").get("name", "")), part(raw, "status")
    gpus, unreadable = [], 0
    for index, gpu in enumerate(status.get("gpus") or ()):
        if gpu.get("problem") or "totalBytes" not in gpu:
            unreadable += 1
        elif not gpu.get("mig"):
            gpus.append(_gpu(f"gpunode {name}: status.gpus[{index}]", gpu))
    host = part(status, "hostMemory").get("freeBytes")
    what = f"gpunode {name}: status.hostMemory.freeBytes"
    return GpuNodeReport(
        node=name,
        reporter_uid=str(part(status, "reporter").get("uid", "")),
        gpus=tuple(gpus),
        host_free_bytes=None if host is None else _bytes(what, host),
        unreadable=unreadable,
    )


def trusted_reports(reports: Iterable[GpuNodeReport], pods: Iterable[Pod]) -> dict[str, GpuNodeReport]:
    """Reports by node, of those that count."""
    by_writer = {report.reporter_uid: report for report in reports if report.reporter_uid}
    if not by_writer:
        return {}
    writers = ((by_writer[pod.uid], pod) for pod in pods if pod.uid in by_writer)
    return {report.node: report for report, pod in writers if counts(report, pod)}


def counts(report: GpuNodeReport, writer: Pod) -> bool:
    """Whether a report counts, given the pod of its writer's uid: on that node, Ready and staying."""
    return writer.node == report.node and writer.ready and not writer.terminating and not writer.terminal


def measured_room(report: GpuNodeReport, own: Collection[str], holding: Collection[str]) -> MeasuredRoom:
    """Room for an owner whose pods are `own`; `holding` are all pods that run on the node now.

    A holder that is not among them has gone since the report was written, so its GPU is held by nobody.
    """
    mine: list[int] = []
    free: list[int] = []
    for gpu in report.gpus:
        holders = [name for name in gpu.holders if name in holding]
        if not holders:
            free.append(gpu.free_bytes)
        elif all(name in own for name in holders):
            mine.append(gpu.free_bytes)
    return MeasuredRoom(tuple(sorted(mine, reverse=True)), min(free, default=None))


def _gpu(what: str, raw: Raw) -> ReportedGpu:
    return ReportedGpu(
        uuid=str(raw.get("uuid", "")),
        total_bytes=_bytes(f"{what}.totalBytes", raw["totalBytes"]),
        reserved_bytes=_bytes(f"{what}.reservedBytes", raw.get("reservedBytes") or 0),
        foreign_bytes=_bytes(f"{what}.foreignBytes", raw.get("foreignBytes") or 0),
        holders=tuple(f"{pod.get('namespace')}/{pod.get('name')}" for pod in raw.get("heldBy") or ()),
    )


def _bytes(what: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise BadObject(f"{what}: {value!r} is not a number of bytes")
