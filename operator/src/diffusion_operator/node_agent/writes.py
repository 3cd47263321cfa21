"""When a report is worth a write: enough has moved, and the last write is long enough ago. Pure."""

from __future__ import annotations

from typing import Any

from diffusion_operator.node_agent.foreign import GpuObservation, Observation

LEAST_SECONDS_BETWEEN_WRITES = 30.0
GIB = 1024**3
LEAST_FOREIGN_MOVE_BYTES = GIB // 2
LEAST_FOREIGN_MOVE_SHARE = 0.02
"""Of the GPU's memory; less than the 5 % that the planner leaves free."""
LEAST_HOST_MOVE_BYTES = 2 * GIB
LEAST_HOST_MOVE_SHARE = 0.05


def worth_a_write(written: Observation | None, seen: Observation) -> str | None:
    """What changed since the report that was written, in words; None while nothing worth a write did.

    Use by the pods themselves, PCIe state and small moves are carried along but never cause a write.
    """
    if written is None:
        return "first report of this agent"
    if _facts(written) != _facts(seen):
        return "GPUs, their holders or their health changed"
    for old, new in zip(written.gpus, seen.gpus, strict=True):
        if _foreign_moved(old, new):
            return f"foreign memory of GPU {new.reading.index} moved"
    return "free host memory moved" if _host_moved(written, seen) else None


def _facts(observation: Observation) -> list[tuple[Any, ...]]:
    gpus = [
        (
            gpu.reading.index,
            gpu.reading.uuid,
            gpu.reading.mig,
            gpu.reading.problem,
            gpu.reading.memory.total_bytes if gpu.reading.memory else None,
            gpu.holders,
        )
        for gpu in observation.gpus
    ]
    return [(observation.driver_version,), *gpus]


def _foreign_moved(old: GpuObservation, new: GpuObservation) -> bool:
    total = new.reading.memory.total_bytes if new.reading.memory else 0
    least = max(LEAST_FOREIGN_MOVE_BYTES, LEAST_FOREIGN_MOVE_SHARE * total)
    return abs(new.foreign_bytes - old.foreign_bytes) > least


def _host_moved(old: Observation, new: Observation) -> bool:
    if old.host is None or new.host is None:
        return (old.host is None) != (new.host is None)
    least = max(LEAST_HOST_MOVE_BYTES, LEAST_HOST_MOVE_SHARE * new.host.total_bytes)
    return abs(new.host.free_bytes - old.host.free_bytes) > least
