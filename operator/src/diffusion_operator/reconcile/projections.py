"""What the mirror keeps of an object: little of pods, which are many, and nothing of what nobody reads.

One odd object of somebody else must not stop every decision: what cannot be read has no view and is logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from diffusion_operator.api.names import LABEL_DEPLOYMENT
from diffusion_operator.inventory.gpu_nodes import GpuNodeReport, parse_gpu_node
from diffusion_operator.inventory.objects import (
    ManagedDeployment,
    Node,
    Pod,
    parse_deployment,
    parse_node,
    parse_pod,
)
from diffusion_operator.inventory.quota import Quota, parse_quota
from diffusion_operator.inventory.requests import BadObject
from diffusion_operator.inventory.volumes import Claim, Volume, parse_claim, parse_volume
from diffusion_operator.kube.resources import (
    DEPLOYMENTS,
    GPU_NODES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    REPLICA_SETS,
    RESOURCE_QUOTAS,
    JsonObject,
    Resource,
)

logger = logging.getLogger(__name__)

View = Node | Pod | ManagedDeployment | Quota | Claim | Volume | GpuNodeReport
_PARSERS: Mapping[Resource, Callable[[JsonObject], View]] = {
    NODES: parse_node,
    PODS: parse_pod,
    DEPLOYMENTS: parse_deployment,
    RESOURCE_QUOTAS: parse_quota,
    PERSISTENT_VOLUME_CLAIMS: parse_claim,
    PERSISTENT_VOLUMES: parse_volume,
    GPU_NODES: parse_gpu_node,
}

_VIEWED_ONLY = (NODES, GPU_NODES, RESOURCE_QUOTAS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES)


def project(resource: Resource, obj: JsonObject) -> tuple[JsonObject | None, View | None]:
    """(kept raw object, view for placement)."""
    parse = _PARSERS.get(resource)
    view: View | None = None
    if parse is not None:
        try:
            view = parse(obj)
        except BadObject as error:
            logger.warning("left out of the ledger: %s", error)
    return _kept(resource, obj), view


def _kept(resource: Resource, obj: JsonObject) -> JsonObject | None:
    ours = LABEL_DEPLOYMENT in (obj["metadata"].get("labels") or {})
    if resource in _VIEWED_ONLY or (resource is PODS and not ours):
        return None
    kept: dict[str, Any] = {"apiVersion": resource.api_version, "kind": resource.kind, **obj}
    kept["metadata"] = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    spec = obj.get("spec") or {}
    if resource is PODS:
        kept["spec"] = {"nodeName": spec["nodeName"]} if spec.get("nodeName") else {}
        images = ({"name": c.get("name"), "image": c.get("image")} for c in spec.get("containers") or ())
        kept["spec"]["containers"] = list(images)
    elif resource is REPLICA_SETS:
        pod = spec.get("template", {}).get("spec", {})
        kept["spec"] = {
            "replicas": spec.get("replicas"),
            "template": {"spec": {"volumes": pod.get("volumes") or []}},
        }
    return kept
