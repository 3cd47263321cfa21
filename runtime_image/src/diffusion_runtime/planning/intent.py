"""What the user wants of the planner: a mode, and explicit settings that always win.

Absent means planned, set means binding. No default here depends on a model or a device.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from diffusion_runtime.planning.documents import (
    DeviceKind,
    Document,
    DtypeName,
    ModeName,
    Objective,
    Positive,
    ResidencyMode,
)

MAX_GPUS = 1024


class Intent(Document):
    """Mode, objective and every explicit setting of `performance`, `parallelism`, `residency` and `dtype`."""

    mode: ModeName = "auto"
    bias: Annotated[float, Field(ge=0, le=1)] | None = None
    objective: Objective = "balanced"
    memory_reserve_fraction: Annotated[float, Field(ge=0, lt=1)] | None = None
    memory_reserve_bytes: Annotated[int, Field(ge=0)] | None = None
    device: DeviceKind = "cuda"
    gpus_per_replica: Positive | None = None
    max_gpus_per_replica: Positive | None = None
    cfg: Positive | None = None
    ulysses: Positive | None = None
    ring: Positive | None = None
    tensor: Positive | None = None
    fsdp: bool | None = None
    text_encoder_tensor: bool | None = None
    """Slice text encoders over all ranks; never planned by itself."""
    cfg_parallel: bool | None = None
    residency: dict[str, ResidencyMode] = Field(default_factory=dict)
    dtype: dict[str, DtypeName] = Field(default_factory=dict)
    compile: bool | None = None
    attention_backend: str | None = None
    vae_tile_size: Positive | None = None
    fsdp_blocks_per_unit: Positive | None = None
    """Blocks that FSDP gathers together; absent is one."""
    allow_downgrade: bool = True

    @property
    def sets_parallel_policy(self) -> bool:
        """Whether the user chose any way of splitting the work; then the planner adds none by itself."""
        return any(
            value is not None for value in (self.cfg, self.ulysses, self.ring, self.tensor, self.cfg_parallel)
        )
