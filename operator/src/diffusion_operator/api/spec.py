"""spec: the whole wish of a user, one field per topic."""

from __future__ import annotations

from pydantic import Field

from diffusion_operator.api.base import ApiModel
from diffusion_operator.api.hardware import HardwareSpec
from diffusion_operator.api.model import ModelSpec
from diffusion_operator.api.performance import (
    ComponentName,
    Dtype,
    ParallelismSpec,
    PerformanceSpec,
    ResidencyMode,
)
from diffusion_operator.api.pod import PodSpec
from diffusion_operator.api.serving import CacheSpec, MonitoringSpec, RolloutSpec, ServiceSpec
from diffusion_operator.api.workload import Task, WorkloadSpec


class DiffusionDeploymentSpec(ApiModel):
    """What to serve. Only model is required: what you leave out is planned, what you set is binding."""

    model: ModelSpec = Field(description="Which weights are served.")
    task: Task | None = Field(
        None, description="What the model is used for. Absent or `auto`: what the model is made for."
    )
    workload: WorkloadSpec | None = Field(
        None, description="What a replica has to draw; memory and time are planned for it."
    )
    performance: PerformanceSpec | None = Field(
        None, description="What matters more: time, memory, or a balance of both."
    )
    parallelism: ParallelismSpec | None = Field(
        None, description="How many GPUs a replica gets and how they share one request."
    )
    residency: dict[ComponentName, ResidencyMode] | None = Field(
        None,
        max_length=16,
        description="Where the weights of a component live, by its name in the pipeline (`transformer`, "
        "`text_encoder`, `vae`, …). `resident`: always on the GPU. `component`: moved to the "
        "GPU whole while it is used. `layerwise`: streamed through the GPU block by block. "
        "Components that are not named are planned.",
    )
    dtype: dict[ComponentName, Dtype] | None = Field(
        None,
        max_length=16,
        description="Number format of a component's weights, by its name in the pipeline. Components that "
        "are not named are planned.",
    )
    hardware: HardwareSpec | None = Field(None, description="Which nodes and GPUs may be used.")
    replicas: int = Field(
        1,
        ge=0,
        le=1000,
        description="Number of engine pods. Leave it out of your manifest when an autoscaler sets it: "
        "applying the manifest again then keeps the autoscaler's number.",
    )
    rollout: RolloutSpec | None = Field(
        None, description="How running pods are replaced by pods of a new plan."
    )
    cache: CacheSpec | None = Field(None, description="Where downloaded weights are kept between pods.")
    service: ServiceSpec | None = Field(None, description="How the API is reached.")
    monitoring: MonitoringSpec | None = Field(None, description="How metrics are collected.")
    suspend: bool | None = Field(
        None, description="Plan only: the status shows what would run, and no pod is kept. Absent: false."
    )
    pod: PodSpec | None = Field(None, description="Additions to the engine's pods.")
