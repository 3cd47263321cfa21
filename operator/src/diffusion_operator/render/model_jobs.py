"""The two Jobs of a model, and the ConfigMap with what the first one found.

*Inspect* reads configs and headers and answers ModelFacts in its termination message; *fetch* brings the
weights into the cache, on a node of the group that will serve. Neither has a GPU nor a service account token.
"""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.names import (
    FACTS_KEY,
    FIELD_MANAGER,
    LABEL_INSTANCE,
    LABEL_MANAGED_BY,
    LABEL_NAME,
    facts_config_map_name,
    model_job_name,
)
from diffusion_operator.placement.decision import GroupDecision
from diffusion_operator.placement.facts import asked_revision, cache_claim, facts_key, is_fetched, job_key
from diffusion_operator.placement.wish import resource_of
from diffusion_operator.render.container import MANAGEMENT_PORT, MANAGEMENT_PORT_NAME
from diffusion_operator.render.deployment import pod_security, pull_secrets
from diffusion_operator.render.metadata import Manifest, child_metadata
from diffusion_operator.render.model_volume import (
    fetch_container,
    model_mounts,
    model_volumes,
    scratch_mount,
    source_arguments,
    source_container,
)
from diffusion_operator.render.scheduling import scheduling_fields
from diffusion_operator.render.settings import RenderSettings

INSPECT_CONTAINER = "inspect"
INSPECT_RETRIES, FETCH_RETRIES = 2, 4
# Long enough to pull a large engine image first.
INSPECT_DEADLINE_S = 1800
# Only for a Job that nobody comes to read; the operator removes it as soon as its answer is kept.
INSPECT_TTL_S = 3600
BAD_INPUT_EXIT = 2
PROGRESS_VARIABLE = "DIFFUSION_PROGRESS_PORT"  # read by diffusion_runtime.commands.fetch_progress
# No label of an engine pod: the Service must not find these pods.
JOB_APP_NAME = "diffusion-model-job"


def inspect_job_name(dd: DiffusionDeployment) -> str:
    """One for each source, revision, variant and credentials."""
    return model_job_name(dd.name, "inspect", job_key(dd.spec))


def fetch_job_name(dd: DiffusionDeployment, group: GroupDecision) -> str:
    """One for each content, credentials and claim."""
    return model_job_name(dd.name, "fetch", job_key(dd.spec, group.plan.model.path, cache_claim(dd.spec)))


def facts_name(dd: DiffusionDeployment) -> str:
    """Name of the ConfigMap with the facts of the spec's source."""
    return facts_config_map_name(dd.name, facts_key(dd.spec))


def render_inspect(dd: DiffusionDeployment, settings: RenderSettings) -> Manifest:
    """Looks at the source. A volume is mounted only where the source is one, and then read-only."""
    arguments = source_arguments(dd.spec, asked_revision(dd.spec))
    container = source_container(dd, settings, INSPECT_CONTAINER, ["inspect", "--compact", *arguments])
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {}}]
    mounts = [scratch_mount()]
    if not is_fetched(dd.spec):
        volumes += model_volumes(dd)
        mounts += model_mounts(dd.spec)
    pod = _pod(dd, settings, container | {"volumeMounts": mounts}, volumes) | _inspect_nodes(dd)
    limits = {"activeDeadlineSeconds": INSPECT_DEADLINE_S, "ttlSecondsAfterFinished": INSPECT_TTL_S}
    job = _job(dd, inspect_job_name(dd), pod, INSPECT_RETRIES)
    job["spec"] |= limits
    return job


def render_fetch(dd: DiffusionDeployment, group: GroupDecision, settings: RenderSettings) -> Manifest:
    """Fetches into the cache. It stays when it is done: it is the record that the model is there."""
    container = fetch_container(dd, group.plan.model, settings)
    # The operator asks there how far it is, as it asks engines for their report.
    container["env"].append({"name": PROGRESS_VARIABLE, "value": str(MANAGEMENT_PORT)})
    container["ports"] = [{"name": MANAGEMENT_PORT_NAME, "containerPort": MANAGEMENT_PORT, "protocol": "TCP"}]
    volumes = [{"name": "tmp", "emptyDir": {}}, *model_volumes(dd)]
    pod = _pod(dd, settings, container, volumes) | scheduling_fields(dd, group)
    return _job(dd, fetch_job_name(dd, group), pod, FETCH_RETRIES)


def render_facts(dd: DiffusionDeployment, facts_json: str, commit: str | None) -> Manifest:
    """What the inspection found. The revision that was asked for stays what it was then: `commit`."""
    source = dd.spec.model.source
    data = {FACTS_KEY: facts_json, "source": source.kind, "revision": asked_revision(dd.spec) or ""}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": child_metadata(dd, facts_name(dd)),
        "immutable": True,
        "data": data | {"commit": commit or ""},
    }


def _job(dd: DiffusionDeployment, name: str, pod: dict[str, Any], retries: int) -> Manifest:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": child_metadata(dd, name),
        "spec": _job_spec(dd, pod, retries),
    }


def _job_spec(dd: DiffusionDeployment, pod: dict[str, Any], retries: int) -> dict[str, Any]:
    bad_input = {"containerName": pod["containers"][0]["name"], "operator": "In", "values": [BAD_INPUT_EXIT]}
    labels = {LABEL_NAME: JOB_APP_NAME, LABEL_INSTANCE: dd.name, LABEL_MANAGED_BY: FIELD_MANAGER}
    return {
        "backoffLimit": retries,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": bad_input}]},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }


def _pod(
    dd: DiffusionDeployment,
    settings: RenderSettings,
    container: dict[str, Any],
    volumes: list[dict[str, Any]],
) -> dict[str, Any]:
    secrets = pull_secrets(dd, settings)
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": volumes,
        **({"imagePullSecrets": secrets} if secrets else {}),
    }


def _inspect_nodes(dd: DiffusionDeployment) -> dict[str, Any]:
    """Any node for a remote source; for a volume those that the spec allows: others may not reach it."""
    hardware = dd.spec.hardware.to_dict() if dd.spec.hardware else {}
    tolerations = [{"key": resource_of(dd.spec), "operator": "Exists"}, *hardware.get("tolerations", [])]
    fields: dict[str, Any] = {"tolerations": tolerations}
    if not is_fetched(dd.spec) and hardware.get("nodeSelector"):
        fields["nodeSelector"] = hardware["nodeSelector"]
    return fields
