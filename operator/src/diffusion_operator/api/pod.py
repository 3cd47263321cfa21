"""spec.pod: a typed allow-list of what a user may add to an engine's pods.

There is no raw overlay, no host path and no namespace: a deployment can do nothing that its author could
not do with a pod under the restricted Pod Security profile.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from diffusion_operator.api.affinity import Affinity
from diffusion_operator.api.base import (
    LIST_BY_NAME,
    ApiModel,
    DnsLabel,
    DnsName,
    LabelKey,
    LabelValue,
    Quantity,
    rules,
)
from diffusion_operator.api.names import RESERVED_LABEL_PREFIX, RESERVED_LABELS
from diffusion_operator.api.serving import SecretKeyRef

RESERVED_ENV_PREFIXES = ("DIFFUSION_", "HF_HUB_", "LD_", "PYTHON")
RESERVED_ENV = ("HOME", "PATH")
RESERVED_MOUNTS = (
    "/etc/diffusion",
    "/tmp",  # noqa: S108
    "/dev",
    "/proc",
    "/sys",
    "/opt/diffusion",
    "/models",
    "/var/run/secrets",
)
RESERVED_VOLUME_NAMES = ("plan", "tmp", "shm", "model", "compiled")

_labels = "', '".join(RESERVED_LABELS)
LABEL_RULE = f"!self.exists(key, key.startsWith('{RESERVED_LABEL_PREFIX}') || key in ['{_labels}'])"
LABEL_MESSAGE = (
    f"labels that start with {RESERVED_LABEL_PREFIX} and {', '.join(RESERVED_LABELS)} belong to the operator"
)
ANNOTATION_RULE = f"!self.exists(key, key.startsWith('{RESERVED_LABEL_PREFIX}'))"
ANNOTATION_MESSAGE = f"annotations that start with {RESERVED_LABEL_PREFIX} belong to the operator"
ENV_ONE_RULE = "has(self.value) != has(self.secretKeyRef)"
ENV_ONE_MESSAGE = "set exactly one of value, secretKeyRef"
_env_names = "', '".join(RESERVED_ENV)
ENV_NAME_RULE = (
    " && ".join(f"!self.name.startsWith('{prefix}')" for prefix in RESERVED_ENV_PREFIXES)
    + f" && !(self.name in ['{_env_names}'])"
)
ENV_NAME_MESSAGE = (
    f"names that start with {', '.join(RESERVED_ENV_PREFIXES)}"
    f" and the names {', '.join(RESERVED_ENV)} are reserved"
)
VOLUME_ONE_RULE = "[has(self.pvc), has(self.emptyDir), has(self.image)].filter(x, x).size() == 1"
VOLUME_ONE_MESSAGE = "set exactly one of pvc, emptyDir, image"
_mount_rule = " && ".join(
    f"self.mountPath != '{path}' && !self.mountPath.startsWith('{path}/')" for path in RESERVED_MOUNTS
)
VOLUME_MOUNT_RULE = _mount_rule
VOLUME_MOUNT_MESSAGE = f"mountPath must not be in {', '.join(RESERVED_MOUNTS)}, which the engine uses itself"
_volume_names = "', '".join(RESERVED_VOLUME_NAMES)
VOLUME_NAME_RULE = f"!(self.name in ['{_volume_names}'])"
VOLUME_NAME_MESSAGE = f"the volume names {', '.join(RESERVED_VOLUME_NAMES)} are reserved"

ResourceName = Annotated[str, Field(min_length=1, max_length=128)]
RESOURCE_RULE = "!self.exists(key, !(key in ['cpu', 'memory', 'ephemeral-storage']))"
RESOURCE_MESSAGE = "only cpu, memory and ephemeral-storage can be set; GPUs come from the plan"


class PodResources(ApiModel):
    """CPU, memory and scratch space of the engine container; GPUs come from the plan."""

    requests: dict[ResourceName, Quantity] | None = Field(
        None,
        max_length=3,
        description="What is set aside for the container, by cpu, memory and ephemeral-storage.",
        json_schema_extra=rules((RESOURCE_RULE, RESOURCE_MESSAGE)),
    )
    limits: dict[ResourceName, Quantity] | None = Field(
        None,
        max_length=3,
        description="What the container may use at most, by cpu, memory and ephemeral-storage.",
        json_schema_extra=rules((RESOURCE_RULE, RESOURCE_MESSAGE)),
    )


class EnvVar(ApiModel):
    """An environment variable of the engine container."""

    model_config = ConfigDict(
        json_schema_extra=rules((ENV_ONE_RULE, ENV_ONE_MESSAGE), (ENV_NAME_RULE, ENV_NAME_MESSAGE))
    )

    name: str = Field(
        min_length=1, max_length=128, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", description="Name of the variable."
    )
    value: str | None = Field(None, max_length=4096, description="Value as text.")
    secret_key_ref: SecretKeyRef | None = Field(
        None, description="Take the value from a Secret of this namespace."
    )


class PvcVolume(ApiModel):
    """A PersistentVolumeClaim of the same namespace."""

    claim_name: DnsName = Field(description="PersistentVolumeClaim in the namespace of this object.")


class EmptyDirVolume(ApiModel):
    """Scratch space that lives as long as the pod."""

    medium: Literal["disk", "memory"] | None = Field(
        None, description="`disk` or `memory`; memory counts towards the container's limit. Absent: `disk`."
    )
    size_limit: Quantity | None = Field(None, description="Most that may be stored, for example `10Gi`.")


class ImageVolume(ApiModel):
    """The content of an OCI image, read-only."""

    reference: str = Field(
        min_length=1, max_length=512, pattern=r"^[a-z0-9][-A-Za-z0-9_.:/@]*$", description="Image reference."
    )
    pull_policy: Literal["ifNotPresent", "always", "never"] | None = Field(
        None, description="When the node pulls the image. Absent: `ifNotPresent`."
    )


class PodVolume(ApiModel):
    """A further volume of the engine container."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (VOLUME_ONE_RULE, VOLUME_ONE_MESSAGE),
            (VOLUME_MOUNT_RULE, VOLUME_MOUNT_MESSAGE),
            (VOLUME_NAME_RULE, VOLUME_NAME_MESSAGE),
        )
    )

    name: DnsLabel = Field(description="Name of the volume.")
    mount_path: str = Field(
        min_length=2,
        max_length=256,
        pattern=r"^(/[A-Za-z0-9_][-A-Za-z0-9_.]*)+$",
        description="Absolute path at which the engine container sees it.",
    )
    read_only: bool | None = Field(None, description="Mount it read-only. Absent: false.")
    pvc: PvcVolume | None = Field(None, description="A PersistentVolumeClaim of this namespace.")
    empty_dir: EmptyDirVolume | None = Field(None, description="Scratch space that lives as long as the pod.")
    image: ImageVolume | None = Field(None, description="The content of an OCI image, read-only.")


class PullSecret(ApiModel):
    """A Secret with registry credentials."""

    name: DnsName = Field(
        description="Name of a Secret of type kubernetes.io/dockerconfigjson in this namespace."
    )


class PodSpec(ApiModel):
    """Additions to the engine's pods; all else about them comes from the plan and from the operator."""

    labels: dict[LabelKey, LabelValue] | None = Field(
        None,
        max_length=16,
        description="Further labels of the pods. Labels of the operator cannot be set.",
        json_schema_extra=rules((LABEL_RULE, LABEL_MESSAGE)),
    )
    annotations: dict[LabelKey, Annotated[str, Field(max_length=4096)]] | None = Field(
        None,
        max_length=16,
        description="Further annotations of the pods.",
        json_schema_extra=rules((ANNOTATION_RULE, ANNOTATION_MESSAGE)),
    )
    affinity: Affinity | None = Field(None, description="Scheduling rules, as in a pod spec.")
    resources: PodResources | None = Field(
        None, description="CPU, memory and scratch space of the engine container."
    )
    priority_class_name: DnsName | None = Field(None, description="PriorityClass of the pods.")
    runtime_class_name: DnsName | None = Field(
        None, description="RuntimeClass of the pods, for example `nvidia`."
    )
    scheduler_name: DnsName | None = Field(
        None, description="Scheduler of the pods. Absent: the cluster's default."
    )
    image_pull_secrets: tuple[PullSecret, ...] | None = Field(
        None,
        max_length=8,
        description="Secrets of this namespace to pull the engine image with.",
        json_schema_extra=LIST_BY_NAME,
    )
    volumes: tuple[PodVolume, ...] | None = Field(
        None,
        max_length=16,
        description="Further volumes of the engine container.",
        json_schema_extra=LIST_BY_NAME,
    )
    env: tuple[EnvVar, ...] | None = Field(
        None,
        max_length=32,
        description="Further environment variables of the engine container.",
        json_schema_extra=LIST_BY_NAME,
    )
