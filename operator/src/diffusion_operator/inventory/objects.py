"""Slim projections of Node, Pod and managed Deployment: what placement needs and nothing else.

They are frozen so that a snapshot can be shared between decisions. A caller that keeps a mirror should skip
and report an object that raises BadObject: one odd object must not stop the planning of all others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_operator.api.names import ANNOTATION_PLAN_HASH, LABEL_DEPLOYMENT, LABEL_GROUP, LABEL_PLAN_HASH
from diffusion_operator.inventory.requests import BadObject, amounts_of, part, pod_requests
from diffusion_operator.inventory.selection import NodeSelection, Taint, parse_selection

Raw = Mapping[str, Any]

DEFAULT_RESOURCE = "nvidia.com/gpu"


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `extended` counts allocatable resources with a slash in their name, as nvidia.com/gpu."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    ready: bool = True
    extended: Mapping[str, int] = field(default_factory=dict)
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. `owner` is the "namespace/name" of the DiffusionDeployment in its labels, None if foreign."""

    namespace: str
    name: str
    uid: str = ""
    node: str | None = None
    phase: str = "Pending"
    terminating: bool = False
    extended: Mapping[str, int] = field(default_factory=dict)
    memory_bytes: int = 0
    owner: str | None = None
    group: str | None = None
    plan_hash: str | None = None
    ready: bool = False
    unschedulable_message: str | None = None
    claims: tuple[str, ...] = ()
    """PersistentVolumeClaims that it mounts."""

    @property
    def terminal(self) -> bool:
        """A finished pod holds no resources."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class ManagedDeployment:
    """A Deployment of ours. `owner` is "namespace/name" of the DiffusionDeployment."""

    owner: str
    name: str
    group: str
    replicas: int
    resource_name: str
    gpus_per_pod: int
    plan_hash: str
    selection: NodeSelection = field(default_factory=NodeSelection)
    memory_bytes_per_pod: int = 0
    promised_gpus: int = 0
    """What a status promises on nodes that exist: while it does, so many GPUs are nobody else's."""


def parse_node(raw: Raw) -> Node:
    """Projection of a Node. Ready is the condition of that name; without one the node is not ready."""
    metadata, spec, status = part(raw, "metadata"), part(raw, "spec"), part(raw, "status")
    name = str(metadata.get("name", ""))
    extended, memory = amounts_of(f"node {name}", "status.allocatable", part(status, "allocatable"))
    return Node(
        name=name,
        labels=dict(part(metadata, "labels")),
        taints=tuple(
            Taint(key=str(t.get("key", "")), effect=str(t.get("effect", "")), value=str(t.get("value") or ""))
            for t in spec.get("taints") or ()
        ),
        unschedulable=bool(spec.get("unschedulable", False)),
        ready=_condition(status, "Ready") == "True",
        extended=extended,
        memory_bytes=memory,
    )


def parse_pod(raw: Raw) -> Pod:
    """Projection of a Pod with its effective requests, as the scheduler counts them."""
    metadata, spec, status = part(raw, "metadata"), part(raw, "spec"), part(raw, "status")
    namespace, name = str(metadata.get("namespace", "")), str(metadata.get("name", ""))
    labels = part(metadata, "labels")
    extended, memory = pod_requests(f"pod {namespace}/{name}", spec)
    dd_name = labels.get(LABEL_DEPLOYMENT)
    return Pod(
        namespace=namespace,
        name=name,
        uid=str(metadata.get("uid", "")),
        node=spec.get("nodeName") or None,
        phase=str(status.get("phase") or "Pending"),
        terminating=metadata.get("deletionTimestamp") is not None,
        extended=extended,
        memory_bytes=memory,
        owner=f"{namespace}/{dd_name}" if dd_name else None,
        group=labels.get(LABEL_GROUP),
        plan_hash=labels.get(LABEL_PLAN_HASH),
        ready=_condition(status, "Ready") == "True",
        unschedulable_message=_unschedulable(status),
        claims=tuple(
            str(claim["claimName"])
            for volume in spec.get("volumes") or ()
            if (claim := volume.get("persistentVolumeClaim")) and claim.get("claimName")
        ),
    )


def parse_deployment(raw: Raw, resource_name: str | None = None) -> ManagedDeployment:
    """Projection of a Deployment with our labels; the GPU resource is the one its template requests."""
    metadata, spec = part(raw, "metadata"), part(raw, "spec")
    namespace, name = str(metadata.get("namespace", "")), str(metadata.get("name", ""))
    what = f"deployment {namespace}/{name}"
    labels, template = part(metadata, "labels"), part(spec, "template")
    if LABEL_DEPLOYMENT not in labels or LABEL_GROUP not in labels:
        raise BadObject(f"{what}: metadata.labels lacks {LABEL_DEPLOYMENT} or {LABEL_GROUP}")
    pod_spec, pod_metadata = part(template, "spec"), part(template, "metadata")
    extended, memory = pod_requests(what, pod_spec)
    resource = resource_name or next(iter(sorted(extended)), DEFAULT_RESOURCE)
    replicas = spec.get("replicas")
    hashes = part(pod_metadata, "annotations"), part(pod_metadata, "labels")
    return ManagedDeployment(
        owner=f"{namespace}/{labels[LABEL_DEPLOYMENT]}",
        name=name,
        group=str(labels[LABEL_GROUP]),
        replicas=1 if replicas is None else int(replicas),
        resource_name=resource,
        gpus_per_pod=extended.get(resource, 0),
        plan_hash=str(hashes[0].get(ANNOTATION_PLAN_HASH) or hashes[1].get(LABEL_PLAN_HASH) or ""),
        selection=parse_selection(pod_spec),
        memory_bytes_per_pod=memory,
    )


def _conditions(status: Raw) -> Iterable[Raw]:
    return status.get("conditions") or ()


def _condition(status: Raw, kind: str) -> str:
    return next((str(c.get("status")) for c in _conditions(status) if c.get("type") == kind), "Unknown")


def _unschedulable(status: Raw) -> str | None:
    for condition in _conditions(status):
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "Unschedulable":
            return str(condition.get("message") or "the scheduler found no node")
    return None
