"""Pods meet the restricted Pod Security profile, and what a user adds cannot loosen it."""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.render.children import render_children
from unit.operator.scenes import SETTINGS, Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

EVERYTHING: dict[str, Any] = {
    "labels": {"team": "a"},
    "annotations": {"note": "b"},
    "resources": {"requests": {"cpu": 2, "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
    "priorityClassName": "high",
    "runtimeClassName": "nvidia",
    "schedulerName": "other",
    "imagePullSecrets": [{"name": "registry"}],
    "volumes": [
        {"name": "data", "mountPath": "/data", "pvc": {"claimName": "c"}, "readOnly": True},
        {"name": "scratch", "mountPath": "/scratch", "emptyDir": {"medium": "memory", "sizeLimit": "1Gi"}},
        {"name": "extra", "mountPath": "/extra", "image": {"reference": "r:1", "pullPolicy": "always"}},
    ],
    "env": [
        {"name": "A", "value": "1"},
        {"name": "TOKEN", "secretKeyRef": {"name": "s", "key": "k"}},
    ],
}


def pod(dd: Dd, node: NodeBuilder | None = None) -> dict[str, Any]:
    decision = Scene([node or NodeBuilder("n").gpus(8)]).decide(dd)
    manifests = render_children(DiffusionDeployment.parse(dd.build()), decision, SETTINGS)
    template: dict[str, Any] = manifests[-1]["spec"]["template"]
    return template


def test_restricted_with_and_without_additions() -> None:
    for dd in (Dd(), Dd().set("pod", EVERYTHING)):
        spec = pod(dd)["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["serviceAccountName"] == "demo"
        security = spec["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"], security["runAsGroup"]) == (
            True,
            10001,
            10001,
        )
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        (engine,) = spec["containers"]
        assert engine["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers", "nodeName"} & spec.keys()
        kinds = {key for volume in spec["volumes"] for key in volume if key != "name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "image"}
        assert {volume["name"] for volume in spec["volumes"]} == {m["name"] for m in engine["volumeMounts"]}


def test_additions_arrive() -> None:
    template = pod(Dd().set("pod", EVERYTHING))
    spec, (engine,) = template["spec"], template["spec"]["containers"]
    assert template["metadata"]["labels"]["team"] == "a"
    assert template["metadata"]["annotations"]["note"] == "b"
    gpus = engine["resources"]["limits"]["nvidia.com/gpu"]
    assert engine["resources"] == {
        "requests": {"cpu": "2", "memory": "4Gi", "nvidia.com/gpu": gpus},
        "limits": {"memory": "8Gi", "nvidia.com/gpu": gpus},
    }
    assert spec["priorityClassName"] == "high"
    assert spec["runtimeClassName"] == "nvidia"
    assert spec["schedulerName"] == "other"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["volumes"][3:] == [
        {"name": "data", "persistentVolumeClaim": {"claimName": "c"}},
        {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}},
        {"name": "extra", "image": {"reference": "r:1", "pullPolicy": "Always"}},
    ]
    assert [mount.get("readOnly", False) for mount in engine["volumeMounts"][3:]] == [True, False, True]
    assert engine["env"] == [
        {"name": "HF_HUB_OFFLINE", "value": "1"},
        {"name": "HOME", "value": "/tmp"},
        {"name": "DIFFUSION_DRAIN_S", "value": "120"},
        {"name": "DIFFUSION_QUEUE_S", "value": "96"},
        {"name": "A", "value": "1"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ]


def test_pods_are_pinned_to_products_never_to_nodes() -> None:
    spec = pod(
        Dd().set("hardware", {"nodeSelector": {"zone": "a"}}), NodeBuilder("n").gpus(8).label("zone", "a")
    )["spec"]
    assert spec["nodeSelector"] == {"zone": "a", "nvidia.com/gpu.product": "NVIDIA-H200"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]


def test_hardware_without_product_label_excludes_labelled_nodes() -> None:
    spec = pod(Dd(), NodeBuilder("n").gpus(1, None).label("nvidia.com/gpu.memory", "40000"))["spec"]
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    absent = {"key": "nvidia.com/gpu.product", "operator": "DoesNotExist"}
    assert spec["nodeSelector"] == {"nvidia.com/gpu.memory": "40000"}
    assert required == {"nodeSelectorTerms": [{"matchExpressions": [absent]}]}


def test_cpu_arithmetic_still_counts_gpus() -> None:
    (engine,) = pod(Dd().set("performance.device", "cpu").gpus_per_replica(1))["spec"]["containers"]
    assert engine["resources"]["limits"] == {"nvidia.com/gpu": "1"}
