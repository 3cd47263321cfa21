"""DiffusionDeployments as the API server returns them, for tests of the plugin."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

from diffusion_operator.cli.kubectl import Kubectl
from wrappers import GPU, GROUP

GIB = 2**30
NO_KIND = 'error: the server doesn\'t have a resource type "{kind}"'
DEMO = """
apiVersion: diffusion-operator.io/v1alpha1
kind: DiffusionDeployment
metadata: {name: demo}
spec:
  model: {source: {builtIn: {name: demo}}}
  performance: {device: cpu}
"""


def condition(kind: str, status: str, reason: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "reason": reason, "message": message}


def ready_conditions(message: str = "1 of 1 replica ready") -> list[dict[str, str]]:
    return [
        condition("Ready", "True", "Ready", message),
        condition("Reconciling", "False", "Ready"),
        condition("Stalled", "False", "Ready"),
        condition("Degraded", "False", "Ready"),
    ]


def qwen_plan() -> dict[str, Any]:
    return {
        "hash": "3f2a9c0d1e4b",
        "mode": "auto",
        "model": "Qwen/Qwen-Image",
        "gpusPerReplica": 2,
        "product": "NVIDIA-H200",
        "group": "h200",
        "layout": {"cfg": 2, "ulysses": 1, "ring": 1, "tensor": 1, "fsdp": False},
        "layoutSummary": "cfg 2",
        "residency": {"transformer": "resident", "text_encoder": "component", "vae": "resident"},
        "dtype": {"transformer": "bfloat16", "text_encoder": "bfloat16", "vae": "bfloat16"},
        "device": "cuda",
        "source": "formula",
        "peakPerGPU": "57.9GiB",
        "freePerGPU": "133.4GiB",
        "memory": [
            {"component": "vae", "bytes": GIB // 4, "placement": "resident"},
            {"component": "transformer", "bytes": 38 * GIB, "placement": "resident"},
            {"component": "text_encoder", "bytes": 15 * GIB, "placement": "component"},
        ],
        "predictedSecondsPerRequest": 12.3456,
        "reasons": ["Guidance is on, so two GPUs share its two passes."],
        "warnings": ["Activations are fitted for shapes up to 2048 x 2048."],
        "rejected": [
            {"layout": "1 GPU", "reason": "slower by 10.1 s"},
            {"layout": "1 GPU", "reason": "everything resident does not fit", "shortfall": "4.1GiB"},
        ],
        "overrides": ["residency.text_encoder"],
    }


def deployment(*, name: str = "qwen", namespace: str = "pictures", **status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": namespace, "generation": 3},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 3, **status} if status else {},
    }


def placement(replicas: int, gpus: int = 2, plan_hash: str = "h", **more: Any) -> dict[str, Any]:
    """One promise on the group of H200s."""
    named = {"group": "h200", "product": "NVIDIA-H200", "planHash": plan_hash}
    return named | {"replicas": replicas, "gpusPerReplica": gpus} | more


def workload(replicas: int, gpus: int = 2, plan_hash: str = "h", *, name: str = "qwen") -> dict[str, Any]:
    """The Deployment of the group of H200s."""
    labels = {f"{GROUP}/deployment": name, f"{GROUP}/group": "h200"}
    container = {"name": "engine", "resources": {"requests": {GPU: str(gpus)}}}
    pod = {"containers": [container], "nodeSelector": {f"{GPU}.product": "NVIDIA-H200"}}
    template = {"metadata": {"labels": labels | {f"{GROUP}/plan-hash": plan_hash}}, "spec": pod}
    metadata = {"name": f"{name}-h200", "namespace": "pictures", "labels": labels}
    return {"metadata": metadata, "spec": {"replicas": replicas, "template": template}}


def cluster(**found: list[dict[str, Any]] | dict[str, Any]) -> Kubectl:
    """A cluster with these objects by plural: a list, or the one object that is asked for by name.

    A plural that is not given has no kind.
    """

    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        plural = command[2].split(".")[0]
        if plural not in found:
            return subprocess.CompletedProcess(list(command), 1, "", NO_KIND.format(kind=plural))
        answer = found[plural]
        document = {"items": answer} if isinstance(answer, list) else answer
        return subprocess.CompletedProcess(list(command), 0, json.dumps(document), "")

    return Kubectl(run=run)
