"""Wishes that are fine each for itself and cannot be followed together, and names at the limits. Data."""

from __future__ import annotations

from typing import Any

_PVC = {"pvc": {"claimName": "no-such-claim"}}
_HUB = {"huggingFace": {"repo": "owner/name"}}
_SCRATCH: dict[str, Any] = {"emptyDir": {}}


def _volumes(*volumes: dict[str, Any]) -> dict[str, Any]:
    return {"pod": {"volumes": list(volumes)}}


# (the field that a refusal must name, what is added to a good spec)

CONTRADICTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("spec.model.source", {"model": {"source": {"builtIn": {"name": "demo"}, **_PVC}}}),
    ("spec.model.source", {"model": {"source": {}}}),
    ("spec.model.source", {"model": {"source": {**_HUB, **_PVC, "image": {"reference": "a"}}}}),
    ("spec.model.variant", {"model": {"variant": "fp16"}}),
    ("spec.model.variant", {"model": {"source": _PVC, "variant": "fp16"}}),
    ("spec.model.secretRef", {"model": {"secretRef": {"name": "token"}}}),
    ("spec.model.source", {"model": {"source": _PVC}}),
    ("spec.model.source", {"model": {"source": {"image": {"reference": "no/such:image"}}}}),
    (
        "spec.model.loras",
        {"model": {"loras": [{"name": "a", "source": _HUB}, {"name": "a", "source": _HUB}]}},
    ),
    ("spec.model.loras[0].source", {"model": {"loras": [{"name": "a", "source": {**_HUB, **_PVC}}]}}),
    ("spec.cache", {"cache": {"pvc": {"claimName": "models"}}}),
    ("spec.cache", {"model": {"source": _HUB}, "cache": {"prefetch": True}}),
    ("spec.cache", {"model": {"source": _HUB}, "cache": {"pvc": {}}}),
    ("spec.cache", {"model": {"source": _HUB}, "cache": {"pvc": {"claimName": "no-such-claim"}}}),
    ("spec.performance", {"performance": {"mode": "speed", "bias": 0.5}}),
    (
        "spec.performance",
        {"performance": {"mode": "manual", "objective": "latency", "memoryReserve": "89.99%"}},
    ),
    ("spec.performance.memoryReserve", {"performance": {"memoryReserve": "999999Ti"}}),
    ("spec.performance.memoryReserve", {"performance": {"device": "cuda", "memoryReserve": "80Gi"}}),
    ("spec.parallelism", {"parallelism": {"gpusPerReplica": 4, "maxGPUsPerReplica": 2}}),
    ("spec.parallelism", {"parallelism": {"gpusPerReplica": 3, "cfg": 2}}),
    (
        "spec.parallelism",
        {"parallelism": {"gpusPerReplica": 64, "ulysses": 64, "ring": 64, "tensor": 64, "cfg": 2}},
    ),
    ("spec.parallelism", {"parallelism": {"maxGPUsPerReplica": 1, "ulysses": 8}}),
    ("spec.parallelism", {"parallelism": {"gpusPerReplica": 1, "fsdp": True}}),
    ("spec.parallelism", {"parallelism": {"gpusPerReplica": 8, "tensor": 8, "fsdp": True}}),
    ("spec.parallelism", {"parallelism": {"gpusPerReplica": 64}}),
    ("spec.parallelism", {"parallelism": {"gpusPerReplica": 7, "ulysses": 7}}),
    ("spec.parallelism", {"workload": {"guidance": "off"}, "parallelism": {"cfg": 2, "gpusPerReplica": 2}}),
    ("spec.residency", {"residency": {"text_encoder": "layerwise"}}),
    ("spec.residency", {"residency": {"no_such_component": "resident"}}),
    (
        "spec.residency",
        {"residency": {"transformer": "component"}, "parallelism": {"gpusPerReplica": 2, "fsdp": True}},
    ),
    ("spec.dtype", {"dtype": {"no_such_component": "float16"}}),
    ("spec.dtype", {"dtype": {"transformer": "float16", "vae": "float16", "text_encoder": "float16"}}),
    ("spec.task", {"task": "imageToVideo"}),
    ("spec.workload", {"workload": {"shapes": [{"width": 17, "height": 19}]}}),
    (
        "spec.workload",
        {"workload": {"shapes": [{"width": 16384, "height": 16384, "frames": 10000, "steps": 1000}]}},
    ),
    ("spec.workload", {"workload": {"shapes": [{"width": 64, "height": 64, "frames": 81}]}}),
    ("spec.workload", {"workload": {"otherShapes": "refuse"}}),
    ("spec.workload", {"workload": {"concurrency": 64, "guidance": "on"}}),
    ("spec.hardware", {"hardware": {"minMemory": "9999Gi"}}),
    ("spec.hardware", {"hardware": {"productIn": ["no-such-product"]}}),
    ("spec.hardware", {"hardware": {"resourceName": "example.org/no-such-resource"}}),
    ("spec.hardware", {"hardware": {"resourceName": "kubernetes.io/gpu"}}),
    ("spec.hardware", {"hardware": {"resourceName": "requests.nvidia.com/gpu"}}),
    ("spec.hardware", {"hardware": {"productIn": ["NVIDIA-H200"], "minMemory": "200Gi"}}),
    ("spec.hardware", {"hardware": {"nodeSelector": {"kubernetes.io/hostname": "no-such-node"}}}),
    ("spec.hardware.tolerations[0]", {"hardware": {"tolerations": [{"operator": "Exists", "value": "x"}]}}),
    ("spec.hardware.tolerations[0]", {"hardware": {"tolerations": [{"operator": "Equal", "value": "x"}]}}),
    ("spec.hardware.tolerations[0]", {"hardware": {"tolerations": [{"key": "a", "tolerationSeconds": 5}]}}),
    ("spec.rollout", {"rollout": {"strategy": "recreate", "drainTimeout": "0s"}}),
    ("spec.rollout", {"rollout": {"drainTimeout": "999999h999999m999999s"}}),
    ("spec.rollout", {"rollout": {"drainTimeout": "90s", "progressDeadlineSeconds": 60}}),
    ("spec.service", {"service": {"type": "nodePort", "port": 65535}}),
    ("spec.service", {"service": {"apiKeySecretRef": {"name": "no-such-secret", "key": "key"}}}),
    ("spec.monitoring", {"monitoring": {"serviceMonitor": True, "labels": {"a b": "c"}}}),
    ("spec.monitoring", {"monitoring": {"serviceMonitor": False, "labels": {"release": "prometheus"}}}),
    ("spec.suspend", {"suspend": True, "replicas": 1000}),
    ("spec.replicas", {"replicas": 1000}),
    ("spec.replicas", {"replicas": 0, "parallelism": {"gpusPerReplica": 64}}),
    ("spec.pod.labels", {"pod": {"labels": {"diffusion-operator.io/group": "mine"}}}),
    ("spec.pod.labels", {"pod": {"labels": {"app.kubernetes.io/name": "mine"}}}),
    ("spec.pod.annotations", {"pod": {"annotations": {"diffusion-operator.io/plan-hash": "0"}}}),
    ("spec.pod.annotations", {"pod": {"annotations": {f"key-{n}": "x" * 4096 for n in range(16)}}}),
    ("spec.pod.env", {"pod": {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}}),
    ("spec.pod.env[0]", {"pod": {"env": [{"name": "A"}]}}),
    (
        "spec.pod.env[0]",
        {"pod": {"env": [{"name": "A", "value": "1", "secretKeyRef": {"name": "s", "key": "k"}}]}},
    ),
    ("spec.pod.env[0]", {"pod": {"env": [{"name": "PYTHONPATH", "value": "/data"}]}}),
    ("spec.pod.env[0]", {"pod": {"env": [{"name": "PATH", "value": "/data"}]}}),
    ("spec.pod.volumes[0]", _volumes({"name": "plan", "mountPath": "/data", **_SCRATCH})),
    ("spec.pod.volumes[0]", _volumes({"name": "a", "mountPath": "/proc/self", **_SCRATCH})),
    ("spec.pod.volumes[0]", _volumes({"name": "a", "mountPath": "/data"})),
    (
        "spec.pod.volumes[0]",
        _volumes({"name": "a", "mountPath": "/data", **_SCRATCH, "pvc": {"claimName": "c"}}),
    ),
    ("spec.pod.volumes", _volumes(*[{"name": "a", "mountPath": f"/d{n}", **_SCRATCH} for n in range(2)])),
    ("spec.pod.volumes", _volumes(*[{"name": f"a{n}", "mountPath": "/data", **_SCRATCH} for n in range(2)])),
    ("spec.pod.volumes", _volumes({"name": "a", "mountPath": "/data", "emptyDir": {"sizeLimit": "0"}})),
    ("spec.pod.resources", {"pod": {"resources": {"requests": {"nvidia.com/gpu": 1}}}}),
    ("spec.pod.resources", {"pod": {"resources": {"requests": {"cpu": "8"}, "limits": {"cpu": "1"}}}}),
    ("spec.pod.resources", {"pod": {"resources": {"limits": {"memory": "1m"}}}}),
    ("spec.pod.resources", {"pod": {"resources": {"requests": {"memory": "1000Ei"}}}}),
    ("spec.pod.imagePullSecrets", {"pod": {"imagePullSecrets": [{"name": "a"}, {"name": "a"}]}}),
    ("spec.pod", {"pod": {"priorityClassName": "no-such-class", "runtimeClassName": "no-such-class"}}),
    ("spec.pod", {"pod": {"schedulerName": "no-such-scheduler"}}),
)

NAMES: tuple[str, ...] = (
    "a", "a" * 40, "a" * 41, "a" * 63, "a" * 253, "a" * 254, "a-b", "a--b", "a-", "-a", "1a", "0", "A", "a.b",
    "a_b", "a b", "größe", "模型", "🎨", "a/b", "a\n", "..", "a" * 39 + "-", "a" * 20 + "." + "b" * 20,
    "x" * 40, "a" + "-" * 38 + "b", "default", "null", "true", "kubernetes",
)  # fmt: skip
