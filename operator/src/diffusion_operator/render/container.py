"""The engine container.

its command, ports, probes, GPUs, environment and mounts, under the restricted profile.
"""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.pod import EnvVar
from diffusion_operator.placement.decision import GroupDecision
from diffusion_operator.placement.host_memory import planned_host_bytes
from diffusion_operator.render.compile_cache import compile_env, compile_mounts
from diffusion_operator.render.drain import DRAIN_VARIABLE, QUEUE_VARIABLE, drain_seconds, queue_seconds
from diffusion_operator.render.model_volume import RESTRICTED, SCRATCH_FOLDER, model_mounts
from diffusion_operator.render.settings import RenderSettings

ENGINE_CONTAINER = "engine"
API_PORT = 8000
MANAGEMENT_PORT = 9000
MANAGEMENT_PORT_NAME = "management"
API_KEY_VARIABLE = "DIFFUSION_API_KEY"  # read by diffusion_runtime.server.api_key
PLAN_FOLDER = "/etc/diffusion"
PLAN_PATH = f"{PLAN_FOLDER}/plan.json"
STARTUP_PERIOD_S = 5
# The engine ends by itself when it cannot start, and the operator judges a roll-out by its progress; kubelet
# only ends what is beyond both.
STARTUP_LIMIT_S = 6 * 3600


def engine_container(
    dd: DiffusionDeployment, group: GroupDecision, settings: RenderSettings
) -> dict[str, Any]:
    """The only container of the pod."""
    return {
        "name": ENGINE_CONTAINER,
        "image": group.engine_image or settings.engine_image,
        "imagePullPolicy": settings.engine_image_pull_policy,
        "command": ["diffusion-runtime", "serve", "--plan", PLAN_PATH],
        "ports": [
            {"name": "http", "containerPort": API_PORT, "protocol": "TCP"},
            {"name": MANAGEMENT_PORT_NAME, "containerPort": MANAGEMENT_PORT, "protocol": "TCP"},
        ],
        "env": _env(dd, group, settings),
        "resources": _resources(dd, group),
        "startupProbe": _probe("/startupz", STARTUP_PERIOD_S, STARTUP_LIMIT_S // STARTUP_PERIOD_S),
        "livenessProbe": _probe("/livez", 10, 6),
        "readinessProbe": _probe("/readyz", 5, 3),
        "securityContext": RESTRICTED,
        "volumeMounts": _mounts(dd, group),
    }


def _probe(path: str, period_s: int, failures: int) -> dict[str, Any]:
    return {
        "httpGet": {"path": path, "port": MANAGEMENT_PORT_NAME},
        "periodSeconds": period_s,
        "failureThreshold": failures,
        "timeoutSeconds": 5,
    }


def _env(dd: DiffusionDeployment, group: GroupDecision, settings: RenderSettings) -> list[dict[str, Any]]:
    fixed: list[dict[str, Any]] = [
        {"name": "HF_HUB_OFFLINE", "value": "1"},
        {"name": "HOME", "value": SCRATCH_FOLDER},
        # Variables and no flags: an engine that does not know them starts all the same.
        {"name": DRAIN_VARIABLE, "value": str(drain_seconds(dd, group.plan))},
        *_queue_env(dd, group),
        *compile_env(dd, group, settings),
    ]
    key = dd.spec.service.api_key_secret_ref if dd.spec.service else None
    if key is not None:
        # The kubelet reads the Secret; the operator never does.
        fixed.append({"name": API_KEY_VARIABLE, "valueFrom": {"secretKeyRef": key.to_dict()}})
    return fixed + [_variable(variable) for variable in (dd.spec.pod.env if dd.spec.pod else None) or ()]


def _queue_env(dd: DiffusionDeployment, group: GroupDecision) -> list[dict[str, Any]]:
    most_s = queue_seconds(dd, group.plan)
    return [] if most_s is None else [{"name": QUEUE_VARIABLE, "value": str(most_s)}]


def _variable(variable: EnvVar) -> dict[str, Any]:
    if variable.secret_key_ref:
        return {"name": variable.name, "valueFrom": {"secretKeyRef": variable.secret_key_ref.to_dict()}}
    return {"name": variable.name, "value": variable.value or ""}


def _resources(dd: DiffusionDeployment, group: GroupDecision) -> dict[str, Any]:
    """What the user writes, the GPUs, and the host memory that the plan counts on where nobody names one."""
    wish = dd.spec.pod.resources.to_dict() if dd.spec.pod and dd.spec.pod.resources else {}
    gpus = {group.resource_name: str(group.plan.gpus_per_replica)}
    named = any("memory" in wish.get(kind, {}) for kind in ("requests", "limits"))
    host = 0 if named else planned_host_bytes(group.plan)
    resources = {kind: {**_texts(wish.get(kind, {})), **gpus} for kind in ("requests", "limits")}
    if host:
        resources["requests"]["memory"] = str(host)
    return resources


def _texts(amounts: dict[str, Any]) -> dict[str, str]:
    """Quantities as text, the form in which the API server gives them back."""
    return {name: str(amount) for name, amount in amounts.items()}


def _mounts(dd: DiffusionDeployment, group: GroupDecision) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "plan", "mountPath": PLAN_FOLDER, "readOnly": True},
        {"name": "tmp", "mountPath": SCRATCH_FOLDER},
        {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - a memory volume of the pod's own
        *model_mounts(dd.spec),
        *compile_mounts(dd, group),
    ]
    for volume in (dd.spec.pod.volumes if dd.spec.pod else None) or ():
        mount: dict[str, Any] = {"name": volume.name, "mountPath": volume.mount_path}
        if volume.read_only or volume.image:
            mount["readOnly"] = True
        mounts.append(mount)
    return mounts
