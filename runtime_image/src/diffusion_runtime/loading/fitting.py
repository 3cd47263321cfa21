"""Planning again at the start, with the memory that is really free: the plan, one of its fallbacks, or a
refusal with numbers.

Only what was planned is compared, nothing new is invented. Torch-free: the parent asks before a rank starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from diffusion_runtime.planning.documents import Execution, Fallback, Plan
from diffusion_runtime.planning.units import format_bytes

from .executable import is_executable
from .gpus import DriverGpu
from .refusal import EngineRefusal


@dataclass(frozen=True)
class Start:
    """What to execute first, then what is left to fall back to. `why` is None when it is the plan itself."""

    executions: tuple[Execution, ...]
    why: str | None = None


@dataclass(frozen=True)
class Shortage:
    """What an execution lacks: bytes asked and free, a condition reason, and the sentence."""

    reason: str
    message: str
    asked_bytes: int
    free_bytes: int


def choose_start(plan: Plan, gpus: Sequence[DriverGpu], host_free_bytes: int | None) -> Start:
    """The first of plan and executable fallbacks that fits now, with those after it.

    Raises EngineRefusal (InsufficientMemory, InsufficientHostMemory). A cpu plan is followed as it is: its
    forecast is that of a GPU. So is one whose own forecast said that it does not fit: that was decided.
    """
    executions: tuple[Execution, ...] = (plan, *filter(is_executable, plan.fallbacks))
    memory = plan.memory
    if plan.device != "cuda" or memory.peak_per_gpu_bytes > memory.free_per_gpu_bytes:
        return Start(executions)
    shortages: list[Shortage] = []
    for index, execution in enumerate(executions):
        shortage = _shortage(plan, execution, gpus, host_free_bytes)
        if shortage is None:
            return Start(executions[index:], shortages[0].message if shortages else None)
        shortages.append(shortage)
    raise _refusal(shortages)


def planned_peak_bytes(plan: Plan, execution: Execution) -> int:
    """What the driver should show of one GPU at most."""
    return execution.peak_per_gpu_bytes if isinstance(execution, Fallback) else plan.memory.peak_per_gpu_bytes


def planned_host_bytes(plan: Plan, execution: Execution) -> int | None:
    """Host memory of all ranks together; None where a fallback does not say."""
    return execution.host_bytes if isinstance(execution, Fallback) else plan.memory.host_bytes


def _shortage(
    plan: Plan, execution: Execution, gpus: Sequence[DriverGpu], host_free_bytes: int | None
) -> Shortage | None:
    peak, used = planned_peak_bytes(plan, execution), gpus[: execution.gpus_per_replica]
    index, least = min(enumerate(used), key=lambda numbered: numbered[1].free_bytes)
    if least.free_bytes < peak:
        message = (
            f"{format_bytes(peak)} per GPU are needed, GPU {index} ({least.name}) has "
            f"{format_bytes(least.free_bytes)} of {format_bytes(least.total_bytes)} free"
        )
        return Shortage("InsufficientMemory", message, peak, least.free_bytes)
    host = planned_host_bytes(plan, execution)
    if all(residency.mode == "resident" for residency in execution.residency.values()):
        return None
    if host is not None and host_free_bytes is not None and host_free_bytes < host:
        message = (
            f"{format_bytes(host)} of host memory are needed with offloaded weights, this container may "
            f"still take {format_bytes(host_free_bytes)}"
        )
        return Shortage("InsufficientHostMemory", message, host, host_free_bytes)
    return None


def _refusal(shortages: Sequence[Shortage]) -> EngineRefusal:
    """The plan's own shortage names the reason; the last fallback's says how little would have done."""
    first, last = shortages[0], shortages[-1]
    message = f"The plan does not fit: {first.message}."
    if len(shortages) > 1:
        message += f" Nor do its {len(shortages) - 1} fallbacks; for the last one {last.message}."
    return EngineRefusal(first.reason, message, first.asked_bytes, first.free_bytes)
