"""What the operator would see: nodes, pods, Deployments, node reports and plans, live or from a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from diffusion_operator.api.gpu_node import GPU_NODE_KIND
from diffusion_operator.api.names import KIND, LABEL_DEPLOYMENT
from diffusion_operator.cli.errors import BadInput, NotAllowed
from diffusion_operator.cli.kubectl import JsonObject, Kubectl
from diffusion_operator.inventory.gpu_nodes import parse_gpu_node
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.inventory.ledger_build import build_ledger
from diffusion_operator.inventory.objects import (
    ManagedDeployment,
    parse_deployment,
    parse_node,
    parse_pod,
)
from diffusion_operator.inventory.promised import as_promised
from diffusion_operator.inventory.quota import parse_quota
from diffusion_operator.inventory.requests import BadObject
from diffusion_operator.inventory.selection import Mount
from diffusion_operator.inventory.volumes import mount_of, parse_claim, parse_volume

SAVE_COMMAND = "kubectl get nodes,pods -A -o yaml"
KINDS = (
    "Node", "Pod", "Deployment", "ConfigMap", "ResourceQuota", "PersistentVolumeClaim", "PersistentVolume",
    GPU_NODE_KIND, KIND,
)  # fmt: skip


@dataclass(frozen=True)
class Snapshot:
    """Raw objects by kind."""

    nodes: list[JsonObject]
    pods: list[JsonObject]
    deployments: list[JsonObject]
    config_maps: list[JsonObject]
    gpu_nodes: list[JsonObject] = field(default_factory=list)
    quotas: list[JsonObject] = field(default_factory=list)
    claims: list[JsonObject] | None = None
    """None: nothing is known of claims."""
    volumes: list[JsonObject] = field(default_factory=list)
    operators: list[JsonObject] = field(default_factory=list)
    diffusion_deployments: list[JsonObject] = field(default_factory=list)
    unread: tuple[str, ...] = ()
    """What the user may not read, in sentences."""

    def ledger(self) -> Ledger:
        """Free GPUs of every node. Raises BadInput naming an object that cannot be read."""
        try:
            return build_ledger(
                [parse_node(raw) for raw in self.nodes],
                [parse_pod(raw) for raw in self.pods],
                self.reserving().values(),
                [parse_quota(raw) for raw in self.quotas],
                [parse_gpu_node(raw) for raw in self.gpu_nodes],
            )
        except BadObject as error:
            raise BadInput(str(error)) from error

    def reserving(self) -> dict[tuple[str, str], ManagedDeployment]:
        """By owner and group: the Deployments, and what a status promises beyond them. Raises BadObject."""
        found = {(one.owner, one.group): one for one in map(parse_deployment, self.deployments)}
        for dd in self.diffusion_deployments:
            namespace, name = dd["metadata"].get("namespace", "default"), dd["metadata"]["name"]
            for placement in (dd.get("status") or {}).get("placements") or ():
                key = (f"{namespace}/{name}", str(placement.get("group", "")))
                found[key] = as_promised(placement, found.get(key), (namespace, name))
        return found

    def mount(self, namespace: str, claim: str) -> Mount | None:
        """What mounting a claim asks of a node; None when the namespace has no such claim."""
        if self.claims is None:
            return Mount(claim)
        found = next(
            (one for one in map(parse_claim, self.claims) if (one.namespace, one.name) == (namespace, claim)),
            None,
        )
        if found is None:
            return None
        volume = next((one for one in map(parse_volume, self.volumes) if one.name == found.volume), None)
        return mount_of(found, volume, map(parse_pod, self.pods))

    def reporting_nodes(self) -> frozenset[str]:
        """Nodes with a report, whether it counts or not."""
        return frozenset(raw["metadata"]["name"] for raw in self.gpu_nodes)


def cluster_snapshot(kubectl: Kubectl) -> Snapshot:
    """The live cluster without anybody's plans."""
    return Snapshot(
        kubectl.nodes(),
        kubectl.pods(),
        kubectl.managed_deployments(),
        [],
        kubectl.gpu_nodes(),
        diffusion_deployments=kubectl.diffusion_deployments(),
    )


def from_cluster(kubectl: Kubectl, name: str, namespace: str) -> Snapshot:
    """The live cluster, as it matters for one DiffusionDeployment."""
    unread: list[str] = []

    def allowed(read: Callable[[], list[JsonObject]]) -> list[JsonObject] | None:
        try:
            return read()
        except NotAllowed as error:
            unread.append(error.message)
            return None

    return replace(
        cluster_snapshot(kubectl),
        config_maps=kubectl.plan_config_maps(name, namespace),
        quotas=allowed(lambda: kubectl.quotas(namespace)) or [],
        claims=allowed(lambda: kubectl.claims(namespace)),
        volumes=allowed(kubectl.volumes) or [],
        operators=allowed(kubectl.operators) or [],
        unread=tuple(unread),
    )


def from_file(path: Path) -> Snapshot:
    """A file with nodes and, if wanted, what else the operator reads. Raises BadInput."""
    kinds: dict[str, list[JsonObject]] = {kind: [] for kind in KINDS}
    for item in _objects(path):
        kind = item.get("kind")
        if kind not in kinds:
            raise BadInput(f"{path}: kind {kind!r} has no place here; save the file with `{SAVE_COMMAND}`.")
        kinds[kind].append(item)
    if not kinds["Node"]:
        raise BadInput(f"{path} holds no Node; save the file with `{SAVE_COMMAND}`.")
    managed = [
        raw for raw in kinds["Deployment"] if LABEL_DEPLOYMENT in (raw["metadata"].get("labels") or {})
    ]
    return Snapshot(
        kinds["Node"],
        kinds["Pod"],
        managed,
        kinds["ConfigMap"],
        kinds[GPU_NODE_KIND],
        kinds["ResourceQuota"],
        kinds["PersistentVolumeClaim"] or None,
        kinds["PersistentVolume"],
        [raw for raw in kinds["Deployment"] if raw not in managed],
        kinds[KIND],
    )


def read_documents(text: str, source: str) -> list[Any]:
    """The YAML or JSON documents of a text, without the empty ones. Raises BadInput with line and column."""
    try:
        return [document for document in yaml.safe_load_all(text) if document is not None]
    except yaml.YAMLError as error:
        raise BadInput(f"{source} is not YAML: {' '.join(str(error).split())}") from error


def read_text(path: Path) -> str:
    """The text of a file. Raises BadInput when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error


def _objects(path: Path) -> Iterator[JsonObject]:
    for document in read_documents(read_text(path), str(path)):
        if not isinstance(document, dict):
            raise BadInput(f"{path}: a {type(document).__name__} stands where a Kubernetes object should.")
        items = document["items"] if str(document.get("kind", "")).endswith("List") else [document]
        for item in items:
            if not isinstance(item, dict) or not isinstance(item.get("metadata"), dict):
                raise BadInput(f"{path}: an object without metadata; save the file with `{SAVE_COMMAND}`.")
            yield item
