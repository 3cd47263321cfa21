"""DiffusionDeployments as the API server returns them, for tests of the plugin."""

from __future__ import annotations

from typing import Any

GIB = 2**30
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


def deployment(**status: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "qwen", "namespace": "pictures", "generation": 3},
        "spec": {"replicas": 2},
        "status": {"observedGeneration": 3, **status} if status else {},
    }
