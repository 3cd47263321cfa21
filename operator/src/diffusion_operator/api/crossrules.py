"""Rules over several fields, checked again after admission.

The CRD carries the same rules in CEL. They are repeated because an operator may meet objects that were
stored under an older CRD, and because some rules cannot be said in CEL within its cost limit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from diffusion_operator.api.errors import InvalidSpec
from diffusion_operator.api.hardware import TOLERATION_EXISTS_MESSAGE, TOLERATION_KEY_MESSAGE
from diffusion_operator.api.model import SOURCES, ModelSource
from diffusion_operator.api.names import RESERVED_LABEL_PREFIX, RESERVED_LABELS
from diffusion_operator.api.performance import (
    BIAS_OR_MODE_MESSAGE,
    COUNT_FILLED_MESSAGE,
    COUNT_UNDER_MAX_MESSAGE,
)
from diffusion_operator.api.pod import (
    ANNOTATION_MESSAGE,
    ENV_NAME_MESSAGE,
    ENV_ONE_MESSAGE,
    LABEL_MESSAGE,
    RESERVED_ENV,
    RESERVED_ENV_PREFIXES,
    RESERVED_MOUNTS,
    RESERVED_VOLUME_NAMES,
    RESOURCE_MESSAGE,
    VOLUME_MOUNT_MESSAGE,
    VOLUME_NAME_MESSAGE,
    VOLUME_ONE_MESSAGE,
    EnvVar,
    PodSpec,
    PodVolume,
)
from diffusion_operator.api.quantities import BadQuantity, parse_duration_seconds, parse_whole
from diffusion_operator.api.spec import DiffusionDeploymentSpec

_LABEL_KEY = re.compile(
    r"([a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
_COMPONENT = re.compile(r"[a-z][a-z0-9_]{0,62}")


def check_cross_rules(spec: DiffusionDeploymentSpec) -> None:
    """Raise InvalidSpec for the first rule that the spec breaks; the order is the order of the fields."""
    _check_model(spec)
    _check_performance(spec)
    _check_parallelism(spec)
    for field, mapping in (("spec.residency", spec.residency), ("spec.dtype", spec.dtype)):
        for component in mapping or ():
            if not _COMPONENT.fullmatch(component):
                raise InvalidSpec(
                    f"{field}.{component}", "is not a component name such as transformer or vae"
                )
    _check_hardware(spec)
    if spec.rollout and spec.rollout.drain_timeout is not None:
        _convert("spec.rollout.drainTimeout", parse_duration_seconds, spec.rollout.drain_timeout)
    if spec.pod:
        _check_pod(spec.pod)


def _check_model(spec: DiffusionDeploymentSpec) -> None:
    _check_one_source("spec.model.source", spec.model.source)
    loras = spec.model.loras or ()
    _check_unique("spec.model.loras", "name", [lora.name for lora in loras])
    for index, lora in enumerate(loras):
        _check_one_source(f"spec.model.loras[{index}].source", lora.source)


def _check_one_source(field: str, source: ModelSource) -> None:
    _check_exactly_one(field, list(source.to_dict()), SOURCES)


def _check_exactly_one(
    field: str, given: Sequence[str], choices: Iterable[str], message: str | None = None
) -> None:
    if len(given) != 1:
        wanted = message or f"set exactly one of {', '.join(choices)}"
        raise InvalidSpec(field, f"{wanted}; {' and '.join(given) if given else 'none'} is set")


def _check_performance(spec: DiffusionDeploymentSpec) -> None:
    performance = spec.performance
    if performance and performance.bias is not None and performance.mode is not None:
        given = f"mode is {performance.mode} and bias is {performance.bias}"
        raise InvalidSpec("spec.performance", f"{BIAS_OR_MODE_MESSAGE}; {given}")


def _check_parallelism(spec: DiffusionDeploymentSpec) -> None:
    parallelism = spec.parallelism
    count = parallelism.gpus_per_replica if parallelism else None
    if parallelism is None or count is None:
        return
    if parallelism.max_gpus_per_replica is not None and count > parallelism.max_gpus_per_replica:
        raise InvalidSpec(
            "spec.parallelism",
            f"{COUNT_UNDER_MAX_MESSAGE}; {count} exceeds {parallelism.max_gpus_per_replica}",
        )
    if count % parallelism.ranks:
        raise InvalidSpec(
            "spec.parallelism", f"{COUNT_FILLED_MESSAGE}; {count} is not a multiple of {parallelism.ranks}"
        )


def _check_hardware(spec: DiffusionDeploymentSpec) -> None:
    hardware = spec.hardware
    if hardware is None:
        return
    if hardware.min_memory is not None:
        _convert("spec.hardware.minMemory", parse_whole, hardware.min_memory)
    _check_label_keys("spec.hardware.nodeSelector", hardware.node_selector or {})
    for index, toleration in enumerate(hardware.tolerations or ()):
        field = f"spec.hardware.tolerations[{index}]"
        if toleration.operator == "Exists" and toleration.value:
            raise InvalidSpec(field, f"{TOLERATION_EXISTS_MESSAGE}; value is {toleration.value!r}")
        if toleration.key is None and toleration.operator != "Exists":
            raise InvalidSpec(field, TOLERATION_KEY_MESSAGE)


def _check_pod(pod: PodSpec) -> None:
    _check_label_keys("spec.pod.labels", pod.labels or {})
    _check_label_keys("spec.pod.annotations", pod.annotations or {})
    for key in pod.labels or ():
        if key.startswith(RESERVED_LABEL_PREFIX) or key in RESERVED_LABELS:
            raise InvalidSpec(f"spec.pod.labels.{key}", LABEL_MESSAGE)
    for key in pod.annotations or ():
        if key.startswith(RESERVED_LABEL_PREFIX):
            raise InvalidSpec(f"spec.pod.annotations.{key}", ANNOTATION_MESSAGE)
    if pod.resources:
        _check_resources("spec.pod.resources.requests", pod.resources.requests or {})
        _check_resources("spec.pod.resources.limits", pod.resources.limits or {})
    env, volumes = pod.env or (), pod.volumes or ()
    _check_unique("spec.pod.env", "name", [variable.name for variable in env])
    _check_unique("spec.pod.volumes", "name", [volume.name for volume in volumes])
    _check_unique("spec.pod.volumes", "mountPath", [volume.mount_path for volume in volumes])
    for index, variable in enumerate(env):
        _check_env(f"spec.pod.env[{index}]", variable)
    for index, volume in enumerate(volumes):
        _check_volume(f"spec.pod.volumes[{index}]", volume)


def _check_resources(field: str, amounts: Mapping[str, int | str]) -> None:
    for name, amount in amounts.items():
        if name not in ("cpu", "memory", "ephemeral-storage"):
            raise InvalidSpec(f"{field}.{name}", RESOURCE_MESSAGE)
        _convert(f"{field}.{name}", parse_whole, amount)


def _check_env(field: str, variable: EnvVar) -> None:
    given = [name for name in ("value", "secretKeyRef") if name in variable.to_dict()]
    _check_exactly_one(field, given, (), ENV_ONE_MESSAGE)
    if variable.name in RESERVED_ENV or variable.name.startswith(RESERVED_ENV_PREFIXES):
        raise InvalidSpec(f"{field}.name", f"{variable.name!r} cannot be set: {ENV_NAME_MESSAGE}")


def _check_volume(field: str, volume: PodVolume) -> None:
    given = [name for name in ("pvc", "emptyDir", "image") if name in volume.to_dict()]
    _check_exactly_one(field, given, (), VOLUME_ONE_MESSAGE)
    if volume.name in RESERVED_VOLUME_NAMES:
        raise InvalidSpec(f"{field}.name", f"{volume.name!r} cannot be used: {VOLUME_NAME_MESSAGE}")
    if any(volume.mount_path == path or volume.mount_path.startswith(f"{path}/") for path in RESERVED_MOUNTS):
        raise InvalidSpec(
            f"{field}.mountPath", f"{volume.mount_path!r} cannot be used: {VOLUME_MOUNT_MESSAGE}"
        )
    if volume.empty_dir and volume.empty_dir.size_limit is not None:
        _convert(f"{field}.emptyDir.sizeLimit", parse_whole, volume.empty_dir.size_limit)


def _check_label_keys(field: str, mapping: Mapping[str, str]) -> None:
    for key in mapping:
        if not _LABEL_KEY.fullmatch(key):
            raise InvalidSpec(field, f"{key!r} is not a label key such as team or example.org/team")


def _check_unique(field: str, what: str, values: list[str]) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise InvalidSpec(
                f"{field}[{index}].{what}", f"{value!r} is used twice; each {what} must be unique"
            )


def _convert(field: str, convert: Callable[[str], int] | Callable[[object], int], value: int | str) -> None:
    try:
        convert(value)  # type: ignore[arg-type]
    except BadQuantity as error:
        raise InvalidSpec(field, str(error)) from error
