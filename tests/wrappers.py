"""Fluent builders of raw API objects for tests: `NodeBuilder("n1").gpus(8, "NVIDIA-H200").build()`.

They build what the API server would return, no more: no defaults of ours, no parsed objects.
"""

from __future__ import annotations

import copy
from typing import Any, Self

GROUP = "diffusion-operator.io"
GPU = "nvidia.com/gpu"
MEMORY_MIB = {"NVIDIA-H200": 143771, "NVIDIA-L40S": 46068, "NVIDIA-A100-SXM4-80GB": 81920, "NVIDIA-L4": 23034}


class NodeBuilder:
    """A Ready node without GPUs and with 256 GiB of memory."""

    def __init__(self, name: str) -> None:
        self._raw: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {
                "allocatable": {"cpu": "64", "memory": "256Gi", "pods": "110"},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }

    def gpus(self, count: int, product: str | None = "NVIDIA-H200", resource: str = GPU) -> Self:
        """Allocatable GPUs and the labels that GPU feature discovery would set."""
        self._raw["status"]["allocatable"][resource] = str(count)
        if product:
            self.label(f"{resource}.product", product).label(f"{resource}.count", str(count))
            if product in MEMORY_MIB:
                self.label(f"{resource}.memory", str(MEMORY_MIB[product]))
        return self

    def label(self, key: str, value: str) -> Self:
        self._raw["metadata"]["labels"][key] = value
        return self

    def taint(self, key: str, effect: str = "NoSchedule", value: str = "") -> Self:
        self._raw["spec"].setdefault("taints", []).append({"key": key, "effect": effect, "value": value})
        return self

    def cordoned(self) -> Self:
        self._raw["spec"]["unschedulable"] = True
        return self.taint("node.kubernetes.io/unschedulable")

    def not_ready(self) -> Self:
        self._raw["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
        return self

    def memory(self, quantity: str) -> Self:
        self._raw["status"]["allocatable"]["memory"] = quantity
        return self

    def build(self) -> dict[str, Any]:
        return copy.deepcopy(self._raw)


class PodBuilder:
    """A Pending pod with one container that requests nothing."""

    def __init__(self, name: str, namespace: str = "default") -> None:
        self._raw: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "labels": {}},
            "spec": {"containers": [{"name": "engine"}]},
            "status": {"phase": "Pending"},
        }

    def gpus(self, count: int, resource: str = GPU) -> Self:
        return self.request(resource, str(count))

    def request(self, resource: str, quantity: str, container: int = 0) -> Self:
        resources = self._raw["spec"]["containers"][container].setdefault("resources", {})
        resources.setdefault("requests", {})[resource] = quantity
        return self

    def container(self, **requests: str) -> Self:
        """One more container; `gpu` stands for the GPU resource."""
        self._raw["spec"]["containers"].append(_container(requests))
        return self

    def init_container(self, *, sidecar: bool = False, **requests: str) -> Self:
        container = _container(requests) | ({"restartPolicy": "Always"} if sidecar else {})
        self._raw["spec"].setdefault("initContainers", []).append(container)
        return self

    def on(self, node: str) -> Self:
        """Bound to a node and running."""
        self._raw["spec"]["nodeName"] = node
        return self.phase("Running")

    def phase(self, phase: str) -> Self:
        self._raw["status"]["phase"] = phase
        return self

    def ready(self, ready: bool = True) -> Self:
        condition = {"type": "Ready", "status": str(ready)}
        self._raw["status"].setdefault("conditions", []).append(condition)
        return self

    def terminating(self) -> Self:
        self._raw["metadata"]["deletionTimestamp"] = "2026-11-24T00:00:00Z"
        return self

    def unschedulable(self, message: str = "0/1 nodes are available") -> Self:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self._raw["status"].setdefault("conditions", []).append(condition)
        return self

    def owned_by(self, deployment: str, group: str = "h200", plan_hash: str = "") -> Self:
        """Labels of an engine pod."""
        labels = {f"{GROUP}/deployment": deployment, f"{GROUP}/group": group}
        self._raw["metadata"]["labels"] |= labels | ({f"{GROUP}/plan-hash": plan_hash} if plan_hash else {})
        return self

    def build(self) -> dict[str, Any]:
        return copy.deepcopy(self._raw)


class GpuNodeBuilder:
    """The GPUNode of a node, written by the pod `agent_pod(node)` builds."""

    def __init__(self, node: str) -> None:
        self._raw: dict[str, Any] = {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": "GPUNode",
            "metadata": {"name": node},
            "status": {
                "reporter": {"namespace": "agents", "name": f"agent-{node}", "uid": f"uid-agent-{node}"},
                "driverVersion": "580.95.05",
                "gpus": [],
            },
        }

    def gpu(self, total_gib: float, foreign_gib: float = 0, *holders: str, **fields: Any) -> Self:
        """One GPU; a holder is "namespace/name"."""
        gpus = self._raw["status"]["gpus"]
        gpu: dict[str, Any] = {
            "index": len(gpus),
            "uuid": f"GPU-{len(gpus)}",
            "totalBytes": int(total_gib * 2**30),
            "foreignBytes": int(foreign_gib * 2**30),
        }
        if holders:
            pairs = [holder.split("/") for holder in holders]
            gpu["heldBy"] = [{"namespace": namespace, "name": name} for namespace, name in pairs]
        gpus.append(gpu | fields)
        return self

    def host_free(self, gib: float) -> Self:
        total = 2**40
        self._raw["status"]["hostMemory"] = {"totalBytes": total, "freeBytes": int(gib * 2**30)}
        return self

    def build(self) -> dict[str, Any]:
        return copy.deepcopy(self._raw)


def agent_pod(node: str, *, ready: bool = True) -> PodBuilder:
    """The node agent's pod on a node."""
    return PodBuilder(f"agent-{node}", "agents").on(node).ready(ready)


class DiffusionDeploymentBuilder:
    """A DiffusionDeployment of the demo model, as the API server would return it (replicas defaulted)."""

    def __init__(self, name: str = "demo", namespace: str = "default") -> None:
        self._raw: dict[str, Any] = {
            "apiVersion": f"{GROUP}/v1alpha1",
            "kind": "DiffusionDeployment",
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1},
            "spec": {"model": {"source": {"builtIn": {"name": "demo"}}}, "replicas": 1},
        }

    def model(self, name: str) -> Self:
        return self.source({"builtIn": {"name": name}})

    def hugging_face(self, repo: str) -> Self:
        return self.source({"huggingFace": {"repo": repo}})

    def source(self, source: dict[str, Any]) -> Self:
        self._raw["spec"]["model"]["source"] = source
        return self

    def replicas(self, count: int) -> Self:
        return self.set("replicas", count)

    def gpus_per_replica(self, count: int) -> Self:
        return self.set("parallelism.gpusPerReplica", count)

    def set(self, path: str, value: Any) -> Self:
        """Set a field below spec by its dotted path."""
        *parents, last = path.split(".")
        target = self._raw["spec"]
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
        return self

    def generation(self, number: int) -> Self:
        self._raw["metadata"]["generation"] = number
        return self

    def build(self) -> dict[str, Any]:
        return copy.deepcopy(self._raw)


def _container(requests: dict[str, str]) -> dict[str, Any]:
    named = {GPU if name == "gpu" else name: amount for name, amount in requests.items()}
    return {"name": "extra", "resources": {"requests": named}}
