"""Small plans, groups and reports for tests of what follows a decision."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from diffusion_operator.placement.decision import GroupDecision, Rollout
from diffusion_runtime.planning.documents import (
    EngineReport,
    Fallback,
    Layout,
    MemoryForecast,
    ModelRef,
    PhaseMemory,
    Phases,
    Plan,
    Residency,
    Shape,
    TimeForecast,
)

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
PHASE = PhaseMemory(weights_bytes=1 << 30, activation_bytes=1 << 20, gap_bytes=0)
MEMORY = MemoryForecast(
    peak_per_gpu_bytes=2 << 30,
    free_per_gpu_bytes=100 << 30,
    host_bytes=0,
    context_bytes=1 << 20,
    phases=Phases(load=PHASE, text=PHASE, denoise=PHASE, decode=PHASE),
)


def plan(digest: str = "aaaaaaaaaaaa", *, fallback: str | None = None, **more: Any) -> Plan:
    """A one-GPU plan of the demo model."""
    fallbacks = ()
    if fallback is not None:
        fallbacks = (
            Fallback(
                gpus_per_replica=1,
                layout=Layout(),
                residency={},
                dtype={},
                peak_per_gpu_bytes=1 << 30,
                hash=fallback,
            ),
        )
    fields: dict[str, Any] = {
        "gpus_per_replica": 1,
        "layout": Layout(),
        "residency": {"transformer": Residency(mode="resident")},
        "dtype": {"transformer": "bfloat16"},
        "model": ModelRef(name="demo", family="qwen-image"),
        "mode": "auto",
        "guidance": True,
        "shapes": (Shape(width=128, height=128, steps=12),),
        "memory": MEMORY,
        "time": TimeForecast(per_forward_seconds=0.1, per_step_seconds=0.2, per_request_seconds=2.4),
        "source": "formula",
        "reasons": ("it fits on one GPU",),
        "fallbacks": fallbacks,
        "hash": digest,
    }
    return Plan(**(fields | more))


def group(planned: Plan | None = None, *, name: str = "h200", replicas: int = 1) -> GroupDecision:
    """One group on H200."""
    return GroupDecision(
        name=name,
        product="NVIDIA-H200",
        plan=planned or plan(),
        replicas=replicas,
        rollout=Rollout("RollingUpdate", 0, 1),
        intent="intent",
    )


def report(planned: Plan, executing: str | None = None) -> EngineReport:
    """What an engine that follows `planned` answers."""
    return EngineReport(
        plan_hash=planned.hash,
        executing_hash=executing or planned.hash,
        state="ready",
        device="cpu",
        ranks=1,
        planned_peak_per_gpu_bytes=planned.memory.peak_per_gpu_bytes,
    )
