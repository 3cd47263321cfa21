"""spec.rollout, spec.cache, spec.service, spec.monitoring: how replicas are replaced, reached and watched."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from diffusion_operator.api.base import ApiModel, DnsName, Duration, LabelKey, LabelValue


class RolloutSpec(ApiModel):
    """How running pods are replaced by pods of a new plan."""

    strategy: Literal["auto", "rollingUpdate", "recreate"] | None = Field(
        None,
        description="`auto`: a new pod starts first where GPUs are spare, else old pods make room one "
        "after the other, and only a single replica without spare GPUs is stopped before its "
        "successor starts. `rollingUpdate`: never stop everything at once by strategy. "
        "`recreate`: always stop first. Absent: `auto`.",
    )
    drain_timeout: Duration | None = Field(
        None,
        description="How long a pod that is told to stop may finish its requests, for example `15m`; what it "
        "cannot finish is answered with a retryable error. Absent: what the longest work that an engine "
        "accepts takes by the prediction, at least `2m` and at most `1h`, unless one request takes longer.",
    )
    progress_deadline_seconds: int | None = Field(
        None,
        ge=60,
        le=86_400,
        description="Seconds without a sign of progress (a pod scheduled, its engine started, loading that "
        "gets on) after which a roll-out has failed; the plan that was ready last then returns. "
        "Absent: 1200.",
    )


class CacheClaim(ApiModel):
    """A volume that keeps downloaded weights."""

    claim_name: DnsName | None = Field(
        None, description="PersistentVolumeClaim of this namespace. Absent: the operator creates one."
    )


class CompiledClaim(ApiModel):
    """A volume that keeps compiled kernels."""

    claim_name: DnsName = Field(
        description="PersistentVolumeClaim of this namespace. Each engine image, version of torch and GPU "
        "product has a folder of its own in it."
    )


class CacheSpec(ApiModel):
    """Where downloaded weights and compiled kernels are kept between pods."""

    pvc: CacheClaim | None = Field(None, description="Keep weights on a PersistentVolumeClaim.")
    prefetch: bool | None = Field(
        None, description="Download before a GPU is requested, so that no GPU waits for the network."
    )
    compiled: CompiledClaim | None = Field(
        None,
        description="Keep compiled kernels on a PersistentVolumeClaim, so that the next pod of a compiled "
        "plan need not compile them again. Whoever can write there can run code in the engine: share it only "
        "among deployments that trust each other. Absent: they end with the pod.",
    )


class SecretKeyRef(ApiModel):
    """One key of a Secret of the same namespace."""

    name: DnsName = Field(description="Name of a Secret in the namespace of this object.")
    key: str = Field(
        min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$", description="Key inside the Secret."
    )


class ServiceSpec(ApiModel):
    """How the API is reached."""

    type: Literal["clusterIP", "nodePort", "loadBalancer"] | None = Field(
        None, description="Kind of the Service. Absent: `clusterIP`, reachable inside the cluster."
    )
    port: int | None = Field(None, ge=1, le=65_535, description="Port of the Service. Absent: 80.")
    api_key_secret_ref: SecretKeyRef | None = Field(
        None,
        description="Secret key with the API key that every request must carry. Absent: no key is asked for.",
    )


class MonitoringSpec(ApiModel):
    """How metrics are collected."""

    service_monitor: bool | None = Field(
        None, description="Create a ServiceMonitor for the Prometheus operator. Absent: false."
    )
    labels: dict[LabelKey, LabelValue] | None = Field(
        None, max_length=16, description="Labels of the ServiceMonitor, by which a Prometheus selects it."
    )
