"""status: what was decided, what runs, and why not more."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from diffusion_operator.api.base import ApiModel, Text
from diffusion_operator.api.performance import ComponentName, Dtype, ResidencyMode

UNSEEN = -1
"""The observedGeneration of an object that no operator has written to."""
CONDITION_TYPES = ("Ready", "Reconciling", "Stalled", "Planned", "ModelCached", "Degraded")
REASONS = (
    "Planned", "Ready", "Progressing", "InsufficientMemory", "InsufficientGPUs", "InsufficientHostMemory",
    "NoGPUNodes", "UnknownHardware", "UnknownModel", "InvalidSpec", "LayoutUnsupported", "NotSupportedYet",
    "Unschedulable", "ImagePullError", "HostOOMKilled", "CudaOutOfMemory", "NoUsableGpu", "PlanMismatch",
    "CrashLoop", "Suspended", "FallbackActive", "WaitingForNodes", "QuotaExceeded", "DriverTooOld",
    "RolledBack", "Downgraded", "Inspecting", "FetchingModel", "ClaimNotFound", "RateLimited",
    "SourceUnavailable", "InsufficientStorage", "JobFailed",
)  # fmt: skip
Short = Annotated[str, Field(max_length=128)]
Bytes = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]


class Condition(ApiModel):
    """One condition, as Kubernetes defines it."""

    type: Short = Field(
        description="Ready, Reconciling, Stalled, Planned, ModelCached or Degraded. Reconciling, Stalled "
        "and Degraded are bad when True; the others are good when True."
    )
    status: Literal["True", "False", "Unknown"] = Field(description="True, False or Unknown.")
    observed_generation: int | None = Field(
        None, ge=0, description="metadata.generation that this condition was computed for."
    )
    last_transition_time: str = Field(
        description="When status changed last.", json_schema_extra={"format": "date-time"}
    )
    reason: Short = Field(description=f"One word for programs: {', '.join(REASONS)}.")
    message: Annotated[str, Field(max_length=4096)] = Field(
        description="One sentence for people, with numbers."
    )


class LayoutStatus(ApiModel):
    """Ranks per axis; their product is the number of GPUs unless fsdp alone fills them."""

    cfg: int = Field(ge=1, description="Ranks that share the two passes of classifier-free guidance.")
    ulysses: int = Field(ge=1, description="Ranks of Ulysses sequence parallelism.")
    ring: int = Field(ge=1, description="Ranks of Ring sequence parallelism.")
    tensor: int = Field(ge=1, description="Ranks of tensor parallelism.")
    fsdp: bool = Field(description="Whether the transformer's weights are sharded over all GPUs.")


class ComponentMemory(ApiModel):
    """Weights of one component."""

    component: Short = Field(description="Name of the component in the pipeline.")
    bytes: Bytes = Field(description="Bytes of its weights in the planned number format.")
    placement: Short = Field(description="Where they live: resident, component, layerwise, or sharded.")


class RejectedPlan(ApiModel):
    """A plan that was considered and lost."""

    layout: Short = Field(description="The layout in words.")
    reason: Text = Field(description="Why it lost.")
    shortfall: Short | None = Field(
        None, description="By how much memory or time it lost, for example `12.4GiB`."
    )


class PlanStatus(ApiModel):
    """The plan in force, in words and numbers."""

    hash: Short = Field(description="Hash over everything that changes the pods; pods carry it as a label.")
    mode: Short = Field(description="Mode that chose the plan; `bias 0.30` when a bias did.")
    model: Annotated[str, Field(max_length=253)] = Field(description="Model that is served.")
    gpus_per_replica: int = Field(ge=1, description="GPUs of one pod.")
    product: Short | None = Field(None, description="GPU product, as the nodes are labelled.")
    group: Short = Field(description="Short name of the hardware group.")
    layout: LayoutStatus = Field(description="How the GPUs of one pod share a request.")
    layout_summary: Short = Field(description="The layout in words, for example `1 GPU` or `fsdp 4 + cfg 2`.")
    residency: dict[ComponentName, ResidencyMode] = Field(
        max_length=32, description="Where each component's weights live."
    )
    dtype: dict[ComponentName, Dtype] = Field(max_length=32, description="Number format of each component.")
    device: Literal["cuda", "cpu"] = Field(description="Where the arithmetic runs.")
    source: Literal["measured", "calibrated", "formula"] = Field(
        description="Where the predictions come from: measured, calibrated or formula."
    )
    peak_per_gpu: Short = Field(
        alias="peakPerGPU", description="Predicted peak memory of one GPU, as the driver shows it."
    )
    free_per_gpu: Short = Field(
        alias="freePerGPU",
        description="Memory that the plan could use on the least-free GPU, less the reserve.",
    )
    memory: tuple[ComponentMemory, ...] | None = Field(
        None, max_length=32, description="Weights of each component and where they live."
    )
    predicted_seconds_per_request: Seconds | None = Field(
        None, description="Predicted seconds for one request of the first shape. Absent on the CPU."
    )
    reasons: tuple[Text, ...] | None = Field(None, max_length=32, description="What decided, in sentences.")
    warnings: tuple[Text, ...] | None = Field(
        None, max_length=32, description="What you should know about it."
    )
    rejected: tuple[RejectedPlan, ...] | None = Field(
        None, max_length=8, description="The best plans that lost, at most 8."
    )
    overrides: tuple[Text, ...] | None = Field(
        None, max_length=32, description="Fields of the spec that the plan had to follow."
    )
    downgraded_from: Short | None = Field(
        None, description="Plan that ran out of memory and of which this one is a fallback."
    )


class Placement(ApiModel):
    """Pods promised to one hardware group."""

    group: Short = Field(description="Short name of the hardware group.")
    gpus_per_replica: int = Field(ge=1, description="GPUs of one pod.")
    replicas: Count = Field(description="Pods in this group.")
    plan_hash: Short = Field(description="Plan that they follow.")
    waiting_for_nodes: Count | None = Field(
        None, description="How many of them wait for nodes that a pool is to bring. Absent: none."
    )
    product: Short | None = Field(None, description="GPU product of the group.")
    layout_summary: Short | None = Field(None, description="Layout of the group's plan in words.")
    peak_per_gpu: Short | None = Field(
        None, alias="peakPerGPU", description="Predicted peak memory of one GPU in this group."
    )


class PhasePeak(ApiModel):
    """Memory of one phase of a request."""

    phase: Short = Field(description="load, text, denoise or decode.")
    peak_bytes: Bytes = Field(description="Highest measured bytes of one GPU, as the driver shows them.")
    predicted_bytes: Bytes | None = Field(
        None, description="What the plan predicted for it. Absent while a fallback runs."
    )


class Observed(ApiModel):
    """What the engines measured. A value changes here only when it moves by more than 2 %."""

    peak_per_gpu: Short | None = Field(
        None, alias="peakPerGPU", description="Highest measured peak memory of one GPU."
    )
    predicted_peak_per_gpu: Short | None = Field(
        None, alias="predictedPeakPerGPU", description="Peak that was predicted for what the engines run."
    )
    phases: tuple[PhasePeak, ...] | None = Field(
        None, max_length=8, description="Measured peak of each phase beside the predicted one."
    )
    seconds_per_step: Seconds | None = Field(None, description="Measured seconds of one denoising step.")
    seconds_per_request: Seconds | None = Field(None, description="Measured seconds of one request.")
    load_seconds: Seconds | None = Field(None, description="Seconds from container start to ready.")
    executing_hash: Short | None = Field(None, description="Plan or fallback that the engines really run.")


class FailedPlanRecord(ApiModel):
    """A roll-out that failed. It is not tried again until spec, engine or hardware change."""

    group: Short = Field(description="Hardware group.")
    plan_hash: Short = Field(description="Plan that did not become ready.")
    intent: Short = Field(description="Hash of the spec and the engine version that it was made for.")
    hardware: Short = Field(description="GPU product, memory and driver that it failed on.")
    reason: Short = Field(description="Why, as a condition reason.")
    message: Text = Field(description="Why, in one sentence.")


class DowngradeRecord(ApiModel):
    """A plan that ran out of memory; the same question on the same hardware is answered by a fallback."""

    model: Annotated[str, Field(max_length=253)] = Field(description="Model and revision.")
    layout: Short = Field(description="Layout in words.")
    shapes: Annotated[str, Field(max_length=512)] = Field(
        description="Shapes: width x height x frames / steps."
    )
    engine: Annotated[str, Field(max_length=512)] = Field(description="Engine image.")
    hardware: Short = Field(description="GPU product, memory and driver.")
    plan_hash: Short = Field(description="Plan that ran out of memory.")
    to_hash: Short | None = Field(None, description="Fallback that replaced it. Absent: none was left.")
    peak_bytes: Bytes = Field(description="Predicted peak per GPU of what ran out of memory.")
    reason: Short = Field(description="CudaOutOfMemory, HostOOMKilled, or what else the engine said.")
    message: Text = Field(description="The engine's last words.")


class LastReadyRecord(ApiModel):
    """The plan of a group that was ready last, to which a failed roll-out goes back."""

    group: Short = Field(description="Hardware group.")
    plan_hash: Short = Field(description="The plan.")
    intent: Short = Field(description="Hash of the spec and the engine version that it was made for.")
    wish: Short = Field(description="Hash of the spec alone.")
    engine_image: Annotated[str, Field(max_length=512)] = Field(description="Engine image that ran it.")


class HistoryStatus(ApiModel):
    """What the operator must remember; it keeps nothing in its own memory alone."""

    failed: tuple[FailedPlanRecord, ...] | None = Field(
        None, max_length=16, description="Roll-outs that failed, newest last."
    )
    downgrades: tuple[DowngradeRecord, ...] | None = Field(
        None, max_length=16, description="Plans that ran out of memory, newest last."
    )
    last_ready: tuple[LastReadyRecord, ...] | None = Field(
        None, max_length=16, description="The plan of each group that was ready last."
    )


class DiffusionDeploymentStatus(ApiModel):
    """Written by the operator alone."""

    observed_generation: int | None = Field(
        None, ge=UNSEEN, description="metadata.generation that this status was computed for; -1: none yet."
    )
    replicas: Count | None = Field(None, description="Engine pods that exist.")
    ready_replicas: Count | None = Field(None, description="Engine pods that answer requests.")
    updated_replicas: Count | None = Field(None, description="Engine pods that follow the plan in force.")
    selector: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Label selector of the pods, as text; autoscalers read it."
    )
    url: Annotated[str, Field(max_length=512)] | None = Field(
        None, description="Address of the API inside the cluster."
    )
    conditions: tuple[Condition, ...] | None = Field(
        None,
        max_length=16,
        description="Ready, Reconciling, Stalled, Planned, ModelCached and Degraded, each with reason and "
        "message.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    plan: PlanStatus | None = Field(None, description="The plan in force, in words and numbers.")
    placements: tuple[Placement, ...] | None = Field(
        None, max_length=16, description="Pods promised to each hardware group."
    )
    observed: Observed | None = Field(None, description="What the engines measured.")
    history: HistoryStatus | None = Field(
        None, description="Roll-outs that failed, plans that ran out of memory, and what was ready last."
    )
