"""The Deployment of one hardware group.

pods that follow one plan and go on serving while the operator is away.
"""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.names import (
    ANNOTATION_INTENT,
    ANNOTATION_PLAN_HASH,
    LABEL_DEPLOYMENT,
    LABEL_GROUP,
    LABEL_PLAN_HASH,
    child_labels,
    deployment_name,
    plan_config_map_name,
)
from diffusion_operator.api.pod import PodVolume
from diffusion_operator.placement.decision import GroupDecision, Rollout
from diffusion_operator.render.compile_cache import compile_volumes
from diffusion_operator.render.container import engine_container
from diffusion_operator.render.drain import drain_seconds
from diffusion_operator.render.metadata import Manifest, child_metadata
from diffusion_operator.render.model_volume import PULL_POLICIES, fetch_containers, model_volumes
from diffusion_operator.render.scheduling import scheduling_fields
from diffusion_operator.render.settings import RenderSettings

UID = 10001
PROGRESS_DEADLINE_SECONDS = 1200
SHM_LIMIT = "8Gi"


def render_deployment(dd: DiffusionDeployment, group: GroupDecision, settings: RenderSettings) -> Manifest:
    """The Deployment, also with 0 replicas, so that scaling up needs no new plan."""
    metadata = child_metadata(dd, deployment_name(dd.name, group.name), group.name)
    metadata["annotations"] = {ANNOTATION_INTENT: group.intent}
    rollout = dd.spec.rollout
    deadline = (rollout.progress_deadline_seconds if rollout else None) or PROGRESS_DEADLINE_SECONDS
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": metadata,
        "spec": {
            "replicas": group.replicas,
            "selector": {"matchLabels": {LABEL_DEPLOYMENT: dd.name, LABEL_GROUP: group.name}},
            "strategy": _strategy(group.rollout),
            "revisionHistoryLimit": 3,
            "progressDeadlineSeconds": deadline,
            "template": {
                "metadata": _pod_metadata(dd, group),
                "spec": _pod_spec(dd, group, settings),
            },
        },
    }


def _strategy(rollout: Rollout) -> dict[str, Any]:
    if rollout.kind == "Recreate":
        return {"type": "Recreate"}
    counts = {"maxSurge": rollout.max_surge, "maxUnavailable": rollout.max_unavailable}
    return {"type": "RollingUpdate", "rollingUpdate": counts}


def _pod_metadata(dd: DiffusionDeployment, group: GroupDecision) -> dict[str, Any]:
    """The user's labels and annotations first: ours always win."""
    pod = dd.spec.pod
    labels = {**(pod.labels or {} if pod else {}), **child_labels(dd.name, group.name)}
    annotations = dict(pod.annotations or {}) if pod else {}
    return {
        "labels": {**labels, LABEL_PLAN_HASH: group.plan.hash},
        "annotations": {**annotations, ANNOTATION_PLAN_HASH: group.plan.hash},
    }


def _pod_spec(dd: DiffusionDeployment, group: GroupDecision, settings: RenderSettings) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "serviceAccountName": dd.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": drain_seconds(dd, group.plan),
        "securityContext": pod_security(),
        "containers": [engine_container(dd, group, settings)],
        "volumes": _volumes(dd, group),
    }
    before = fetch_containers(dd, group, settings)
    if before:
        spec["initContainers"] = before
    return spec | scheduling_fields(dd, group) | _overlay(dd, settings)


def pod_security() -> dict[str, Any]:
    """The restricted Pod Security profile."""
    return {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def pull_secrets(dd: DiffusionDeployment, settings: RenderSettings) -> list[dict[str, Any]]:
    """Pull secrets of the installation and of the spec, each once."""
    own = (dd.spec.pod and dd.spec.pod.image_pull_secrets) or ()
    names = dict.fromkeys([*settings.image_pull_secrets, *(secret.name for secret in own)])
    return [{"name": name} for name in names]


def _volumes(dd: DiffusionDeployment, group: GroupDecision) -> list[dict[str, Any]]:
    plan = plan_config_map_name(dd.name, group.name, group.plan.hash)
    own: list[dict[str, Any]] = [
        {"name": "plan", "configMap": {"name": plan}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHM_LIMIT}},
        *model_volumes(dd, group.files_bytes),
        *compile_volumes(dd, group),
    ]
    return own + [_volume(volume) for volume in (dd.spec.pod.volumes if dd.spec.pod else None) or ()]


def _volume(volume: PodVolume) -> dict[str, Any]:
    if volume.pvc:
        return {"name": volume.name, "persistentVolumeClaim": {"claimName": volume.pvc.claim_name}}
    if volume.image:
        policy = PULL_POLICIES[volume.image.pull_policy or "ifNotPresent"]
        return {"name": volume.name, "image": {"reference": volume.image.reference, "pullPolicy": policy}}
    scratch = volume.empty_dir
    fields: dict[str, Any] = {}
    if scratch and scratch.medium == "memory":
        fields["medium"] = "Memory"
    if scratch and scratch.size_limit is not None:
        fields["sizeLimit"] = str(scratch.size_limit)
    return {"name": volume.name, "emptyDir": fields}


def _overlay(dd: DiffusionDeployment, settings: RenderSettings) -> dict[str, Any]:
    """The fields of spec.pod that are pod fields of the same name."""
    pod = dd.spec.pod
    chosen: dict[str, Any] = {
        "imagePullSecrets": pull_secrets(dd, settings),
        "priorityClassName": pod and pod.priority_class_name,
        "runtimeClassName": pod and pod.runtime_class_name,
        "schedulerName": pod and pod.scheduler_name,
    }
    return {name: value for name, value in chosen.items() if value}
