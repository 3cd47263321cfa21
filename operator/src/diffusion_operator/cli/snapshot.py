"""What the operator would see: nodes, pods, Deployments, node reports and plans, live or from a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from diffusion_operator.api.gpu_node import GPU_NODE_KIND
from diffusion_operator.api.names import LABEL_DEPLOYMENT
from diffusion_operator.cli.errors import BadInput
from diffusion_operator.cli.kubectl import JsonObject, Kubectl
from diffusion_operator.inventory.gpu_nodes import parse_gpu_node
from diffusion_operator.inventory.ledger import Ledger, build_ledger
from diffusion_operator.inventory.objects import parse_deployment, parse_node, parse_pod
from diffusion_operator.inventory.requests import BadObject

SAVE_COMMAND = "kubectl get nodes,pods -A -o yaml"


@dataclass(frozen=True)
class Snapshot:
    """Raw objects by kind."""

    nodes: list[JsonObject]
    pods: list[JsonObject]
    deployments: list[JsonObject]
    config_maps: list[JsonObject]
    gpu_nodes: list[JsonObject] = field(default_factory=list)

    def ledger(self) -> Ledger:
        """Free GPUs of every node. Raises BadInput naming an object that cannot be read."""
        try:
            return build_ledger(
                [parse_node(raw) for raw in self.nodes],
                [parse_pod(raw) for raw in self.pods],
                [parse_deployment(raw) for raw in self.deployments],
                reports=[parse_gpu_node(raw) for raw in self.gpu_nodes],
            )
        except BadObject as error:
            raise BadInput(str(error)) from error

    def reporting_nodes(self) -> frozenset[str]:
        """Nodes with a report, whether it counts or not."""
        return frozenset(raw["metadata"]["name"] for raw in self.gpu_nodes)


def cluster_snapshot(kubectl: Kubectl) -> Snapshot:
    """The live cluster without anybody's plans."""
    return Snapshot(kubectl.nodes(), kubectl.pods(), kubectl.managed_deployments(), [], kubectl.gpu_nodes())


def from_cluster(kubectl: Kubectl, name: str, namespace: str) -> Snapshot:
    """The live cluster, as it matters for one DiffusionDeployment."""
    return replace(cluster_snapshot(kubectl), config_maps=kubectl.plan_config_maps(name, namespace))


def from_file(path: Path) -> Snapshot:
    """A file with nodes and, if wanted, pods, Deployments, ConfigMaps and GPUNodes. Raises BadInput."""
    kinds: dict[str, list[JsonObject]] = {
        kind: [] for kind in ("Node", "Pod", "Deployment", "ConfigMap", GPU_NODE_KIND)
    }
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
    return Snapshot(kinds["Node"], kinds["Pod"], managed, kinds["ConfigMap"], kinds[GPU_NODE_KIND])


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
