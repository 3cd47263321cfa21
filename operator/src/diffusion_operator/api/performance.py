"""spec.performance, spec.parallelism, spec.residency, spec.dtype.

what the planner is told to prefer or to do.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from diffusion_operator.api.base import ApiModel, rules

Mode = Literal["manual", "auto", "speed", "memory"]
ResidencyMode = Literal["resident", "component", "layerwise"]
Dtype = Literal["bfloat16", "float16", "float32"]
ComponentName = Annotated[str, Field(max_length=63)]

MEMORY_RESERVE_PATTERN = r"^(([0-9]|[1-8][0-9])(\.[0-9]{1,2})?%|[0-9]{1,6}(\.[0-9]{1,3})?([KMGT]i|[kMGT])?)$"
_BIAS_OR_MODE = "!(has(self.bias) && has(self.mode))"
_COUNT_UNDER_MAX = (
    "!has(self.gpusPerReplica) || !has(self.maxGPUsPerReplica)"
    " || self.gpusPerReplica <= self.maxGPUsPerReplica"
)
_RANKS = " * ".join(f"(has(self.{axis}) ? self.{axis} : 1)" for axis in ("cfg", "ulysses", "ring", "tensor"))
_COUNT_FILLED = f"!has(self.gpusPerReplica) || self.gpusPerReplica % ({_RANKS}) == 0"

BIAS_OR_MODE_MESSAGE = "set mode or bias, not both: bias is the fine-grained form of mode"
COUNT_UNDER_MAX_MESSAGE = "gpusPerReplica must not exceed maxGPUsPerReplica"
COUNT_FILLED_MESSAGE = "gpusPerReplica must be a multiple of cfg x ulysses x ring x tensor"


class PerformanceSpec(ApiModel):
    """What matters more: time, memory, or a balance of both."""

    model_config = ConfigDict(json_schema_extra=rules((_BIAS_OR_MODE, BIAS_OR_MODE_MESSAGE)))

    mode: Mode | None = Field(
        None,
        description="How the plan is chosen. `auto`: everything on the GPU if it fits, else encoders and "
        "VAE are moved out while unused, then the transformer is sharded, moved or streamed. "
        "`speed`: the fastest prediction; a predicted lack of memory is a warning. `memory`: "
        "the least memory per GPU. `manual`: only what you set below; everything else plain "
        "on the GPU, unchecked. Absent: `auto`. Not together with bias.",
    )
    bias: float | None = Field(
        None,
        ge=0.0,
        le=1.0,
        description="A point between least memory (0.0) and least time (1.0), instead of a mode: the "
        "fastest plan whose memory is at most that share of the way from the smallest to the "
        "largest one that fits.",
    )
    objective: Literal["balanced", "latency", "throughput"] | None = Field(
        None,
        description="How many GPUs a replica gets when you do not say. `balanced`: more GPUs while each "
        "works at 90 % efficiency or better. `latency`: down to 50 %. `throughput`: the most "
        "pictures per GPU-second. Absent: `balanced`.",
    )
    memory_reserve: str | None = Field(
        None,
        max_length=16,
        pattern=MEMORY_RESERVE_PATTERN,
        description="GPU memory that a plan leaves free, as a share such as `5%` (below 90 %) or an "
        "amount such as `2Gi`. Absent: `5%`.",
    )
    allow_downgrade: bool | None = Field(
        None,
        description="Whether an engine that runs out of memory may go on with one of the plan's leaner "
        "fallbacks, and the operator plan with them. `false`: it is Stalled with the numbers instead. "
        "Absent: true.",
    )
    calibrate: Literal["never", "ifMissing", "always"] | None = Field(
        None,
        description="Whether a short measurement on the real GPUs replaces the formula before serving. "
        "Absent: `never`.",
    )
    device: Literal["cuda", "cpu"] | None = Field(
        None,
        description="Where the arithmetic runs. `cpu` is for trying things out on machines without GPUs: "
        "GPUs are still counted and requested, but the engine computes on the CPU. Absent: "
        "`cuda`; an engine without a usable GPU then ends with an error and never falls back "
        "to the CPU.",
    )


class ParallelismSpec(ApiModel):
    """How many GPUs a replica gets and how they share one request.

    What is set is binding, the rest is planned.
    """

    model_config = ConfigDict(
        json_schema_extra=rules(
            (_COUNT_UNDER_MAX, COUNT_UNDER_MAX_MESSAGE), (_COUNT_FILLED, COUNT_FILLED_MESSAGE)
        )
    )

    gpus_per_replica: int | None = Field(
        None,
        ge=1,
        le=64,
        description="Exact number of GPUs of one replica, all on one node. Absent: planned from the "
        "objective.",
    )
    max_gpus_per_replica: int | None = Field(
        None,
        alias="maxGPUsPerReplica",
        ge=1,
        le=64,
        description="Upper bound of the planned number of GPUs. Absent: what one node holds.",
    )
    cfg: int | None = Field(
        None,
        ge=1,
        le=2,
        description="Ranks that share the two passes of classifier-free guidance: 2 computes them side by "
        "side, 1 one after the other.",
    )
    ulysses: int | None = Field(
        None, ge=1, le=64, description="Ranks that share the attention heads (Ulysses sequence parallelism)."
    )
    ring: int | None = Field(
        None, ge=1, le=64, description="Ranks that pass keys and values around (Ring sequence parallelism)."
    )
    tensor: int | None = Field(
        None, ge=1, le=64, description="Ranks that split each layer (tensor parallelism)."
    )
    fsdp: bool | None = Field(
        None,
        description="Whether the transformer's weights are sharded over all GPUs of the replica and "
        "gathered block by block.",
    )
    text_encoder_tensor: bool | None = Field(
        None,
        description="Whether the matrices of text encoders are sliced over all GPUs of the replica, for "
        "models whose text encoder has a tensor-parallel plan (Qwen2.5-VL, Qwen3, Gemma 3). Absent: no; it "
        "is never planned.",
    )

    @property
    def ranks(self) -> int:
        """Product of the axes that are set."""
        return (self.cfg or 1) * (self.ulysses or 1) * (self.ring or 1) * (self.tensor or 1)
