"""Plans written by hand, so that the engine's tests say exactly what is executed and need no planner."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffusion_runtime.loading.allowed import FAMILIES
from diffusion_runtime.planning.documents import (
    Execution,
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
    execution_hash,
    plan_hash,
)

DEMO = Path(__file__).parents[2] / "runtime_image" / "models" / "demo"
COMPONENTS = ("text_encoder", "transformer", "vae")
QWEN_IMAGE = FAMILIES["qwen-image"]
SHAPE = Shape(width=64, height=64, steps=4)


def cpu_execution(cfg: int = 1, mode: str = "resident", **changes: Any) -> Execution:
    """A plain float32 execution on the CPU; `changes` replace whole fields."""
    fields: dict[str, Any] = {
        "gpus_per_replica": cfg,
        "device": "cpu",
        "layout": Layout(cfg=cfg),
        "residency": {name: Residency(mode=mode) for name in COMPONENTS},
        "dtype": dict.fromkeys(COMPONENTS, "float32"),
    }
    return Execution(**(fields | changes))


def plan_for(
    execution: Execution,
    *,
    model: ModelRef | None = None,
    shapes: tuple[Shape, ...] = (SHAPE,),
    fallbacks: tuple[Execution, ...] = (),
    **changes: Any,
) -> Plan:
    """A plan around an execution; forecasts are zeros, nothing in the engine depends on them."""
    model = model or ModelRef(name="demo", family="qwen-image", source="path", path=str(DEMO))
    complete = tuple(
        Fallback(**dict(other), peak_per_gpu_bytes=1, hash=execution_hash(other)) for other in fallbacks
    )
    phase = PhaseMemory(weights_bytes=0, activation_bytes=0, gap_bytes=0)
    fields: dict[str, Any] = {
        **dict(execution),
        "model": model,
        "mode": "auto",
        "guidance": True,
        "shapes": shapes,
        "memory": MemoryForecast(
            peak_per_gpu_bytes=2,
            free_per_gpu_bytes=3,
            host_bytes=0,
            context_bytes=0,
            phases=Phases(load=phase, text=phase, denoise=phase, decode=phase),
        ),
        "time": TimeForecast(per_forward_seconds=0, per_step_seconds=0, per_request_seconds=0),
        "source": "formula",
        "reasons": ("written by a test",),
        "fallbacks": complete,
        "hash": plan_hash(execution, model, {}, complete),
    }
    return Plan(**(fields | changes))
