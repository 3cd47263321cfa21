"""How a pod comes to the model's files: a claim, an image, or a volume of its own that it fetches into first.

Whoever serves has neither network access to the source nor a token: those belong to the fetch alone.
"""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.placement.decision import GroupDecision
from diffusion_operator.placement.facts import (
    cache_claim,
    is_fetched,
    model_claim,
    model_path_argument,
    mount_folder,
)
from diffusion_operator.render.settings import RenderSettings
from diffusion_runtime.planning.documents import ModelRef

VOLUME = "model"
FETCH_CONTAINER = "fetch"
SCRATCH_FOLDER = "/tmp"  # noqa: S108 - the mount point of an emptyDir of the pod's own
TOKEN_KEY = "token"  # noqa: S105 - the key inside of the user's Secret
GIB = 2**30
SLACK = 1.1
"""Tokenizers, configs and a file that is checked before it gets its name come on top of the weights."""
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
PULL_POLICIES = {"ifNotPresent": "IfNotPresent", "always": "Always", "never": "Never"}


def model_volumes(dd: DiffusionDeployment, files_bytes: int = 0) -> list[dict[str, Any]]:
    """The volume with the model; none for a built-in one. `files_bytes` bounds a volume of the pod's own."""
    source, claim = dd.spec.model.source, model_claim(dd.spec)
    if source.built_in:
        return []
    if claim:
        # Not read-only here: a claim that is writable for one pod and not for the next is attached twice.
        return [{"name": VOLUME, "persistentVolumeClaim": {"claimName": claim}}]
    if source.image:
        policy = PULL_POLICIES[source.image.pull_policy or "ifNotPresent"]
        return [{"name": VOLUME, "image": {"reference": source.image.reference, "pullPolicy": policy}}]
    return [{"name": VOLUME, "emptyDir": {"sizeLimit": str(room_bytes(files_bytes))}}]


def model_mounts(spec: DiffusionDeploymentSpec, *, writable: bool = False) -> list[dict[str, Any]]:
    """Where a container sees it; none for a built-in model."""
    if spec.model.source.built_in:
        return []
    mount: dict[str, Any] = {"name": VOLUME, "mountPath": mount_folder(spec)}
    return [mount if writable else mount | {"readOnly": True}]


def fetch_containers(
    dd: DiffusionDeployment, group: GroupDecision, settings: RenderSettings
) -> list[dict[str, Any]]:
    """The init container that fetches into the pod's own volume; none where there is a cache or no need."""
    if not is_fetched(dd.spec) or cache_claim(dd.spec):
        return []
    container = fetch_container(dd, group.plan.model, settings)
    # Counted, so that no node takes more models than its disk holds.
    container["resources"]["requests"]["ephemeral-storage"] = str(room_bytes(group.files_bytes))
    return [container]


def fetch_container(dd: DiffusionDeployment, model: ModelRef, settings: RenderSettings) -> dict[str, Any]:
    """Fetches exactly the state of the source that the plan was made for."""
    arguments = ["--to", model.path or "", *source_arguments(dd.spec, model.revision)]
    container = source_container(dd, settings, FETCH_CONTAINER, ["fetch", *arguments])
    return container | {"volumeMounts": [*model_mounts(dd.spec, writable=True), scratch_mount()]}


def source_arguments(spec: DiffusionDeploymentSpec, revision: str | None) -> list[str]:
    """Flags that name the source. A prefix of a store has no revision to ask for."""
    named = ["--model-path", model_path_argument(spec)]
    if spec.model.source.hugging_face and revision:
        named += ["--revision", revision]
    return named + (["--variant", spec.model.variant] if spec.model.variant else [])


def source_container(
    dd: DiffusionDeployment, settings: RenderSettings, name: str, command: list[str]
) -> dict[str, Any]:
    """A container of the engine image that may read the source; no GPU."""
    return {
        "name": name,
        "image": settings.engine_image,
        "imagePullPolicy": settings.engine_image_pull_policy,
        "command": ["diffusion-runtime", *command],
        "env": [{"name": "HOME", "value": SCRATCH_FOLDER}, *_source_env(dd.spec, settings)],
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}},
        "securityContext": RESTRICTED,
    }


def scratch_mount() -> dict[str, Any]:
    """The folder that a read-only root file system leaves for temporary files."""
    return {"name": "tmp", "mountPath": SCRATCH_FOLDER}


def room_bytes(files_bytes: int) -> int:
    """Bytes that a volume needs for a model with so many bytes of weights."""
    return int(files_bytes * SLACK) + GIB


def _source_env(spec: DiffusionDeploymentSpec, settings: RenderSettings) -> list[dict[str, Any]]:
    source = spec.model.source
    found: list[dict[str, Any]] = []
    if source.hugging_face:
        found.append({"name": "HF_HUB_OFFLINE", "value": "0"})  # the image says 1
        if settings.hub_endpoint:
            found.append({"name": "HF_ENDPOINT", "value": settings.hub_endpoint})
        if spec.model.secret_ref:
            found.append(_secret("HF_TOKEN", spec.model.secret_ref.name, TOKEN_KEY))
    if source.s3:
        plain = (("AWS_ENDPOINT_URL", source.s3.endpoint), ("AWS_REGION", source.s3.region))
        found += [{"name": name, "value": value} for name, value in plain if value]
        if source.s3.secret_ref:
            keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
            found += [_secret(key, source.s3.secret_ref.name, key) for key in keys]
    return found


def _secret(variable: str, secret: str, key: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
