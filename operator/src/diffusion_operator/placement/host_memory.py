"""Host memory of a pod: what a plan keeps there that moves weights off the GPU, and how many a node holds.

Only such plans ask for it; a plain one asks for what the user writes in spec.pod.resources.
"""

from __future__ import annotations

from diffusion_runtime.planning.documents import Plan


def planned_host_bytes(plan: Plan) -> int:
    """Bytes of host memory that one pod counts on, 0 when nothing is moved off its GPUs."""
    moves = any(residency.mode != "resident" for residency in plan.residency.values())
    return plan.memory.host_bytes if moves and plan.device == "cuda" else 0


def gpus_with_memory(plan: Plan, free_gpus: int, host_free_bytes: int | None) -> int:
    """Free GPUs of a node that pods of this plan can use before its host memory ends (None: unknown)."""
    needed = planned_host_bytes(plan)
    if not needed or host_free_bytes is None:
        return free_gpus
    return min(free_gpus, host_free_bytes // needed * plan.gpus_per_replica)
