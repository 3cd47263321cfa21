"""spec.hardware: which nodes and GPUs may be used."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from diffusion_operator.api.base import ApiModel, LabelKey, LabelValue, Quantity, rules

ProductName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]*$")]
TOLERATION_EXISTS_RULE = (
    "!has(self.operator) || self.operator != 'Exists' || !has(self.value) || self.value == ''"
)
TOLERATION_EXISTS_MESSAGE = "operator Exists takes no value"
TOLERATION_KEY_RULE = "has(self.key) || (has(self.operator) && self.operator == 'Exists')"
TOLERATION_KEY_MESSAGE = "a toleration without a key needs operator Exists"


class TolerationSpec(ApiModel):
    """A toleration as in a pod spec."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (TOLERATION_EXISTS_RULE, TOLERATION_EXISTS_MESSAGE), (TOLERATION_KEY_RULE, TOLERATION_KEY_MESSAGE)
        )
    )

    key: LabelKey | None = Field(None, description="Taint key. Absent, with operator Exists: every taint.")
    operator: Literal["Equal", "Exists"] | None = Field(
        None, description="How key and value are compared, as Kubernetes spells it. Absent: Equal."
    )
    value: LabelValue | None = Field(None, description="Taint value that operator Equal compares with.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="Taint effect, as Kubernetes spells it. Absent: all effects."
    )
    toleration_seconds: int | None = Field(
        None,
        ge=0,
        le=31_536_000,
        description="Seconds for which a NoExecute taint is tolerated. Absent: for ever.",
    )


class HardwareSpec(ApiModel):
    """Which nodes and GPUs may be used."""

    resource_name: str | None = Field(
        None,
        max_length=128,
        pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
        description="Extended resource that stands for one GPU, for example `nvidia.com/gpu` or "
        "`nvidia.com/mig-3g.40gb`. A taint of this name is tolerated without being listed. "
        "Absent: `nvidia.com/gpu`.",
    )
    product_in: tuple[ProductName, ...] | None = Field(
        None,
        min_length=1,
        max_length=16,
        description="GPU products to choose from, as the node label `nvidia.com/gpu.product` spells them "
        "(`NVIDIA-H200`) or by short name (`h200`). Absent: any.",
    )
    min_memory: Quantity | None = Field(
        None, description="Least memory of one GPU, for example `40Gi`. Absent: any that the plan fits."
    )
    node_selector: dict[LabelKey, LabelValue] | None = Field(
        None, max_length=16, description="Labels that a node must have."
    )
    tolerations: tuple[TolerationSpec, ...] | None = Field(
        None, max_length=16, description="Taints that the engine's pods tolerate."
    )
