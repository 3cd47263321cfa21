"""A model on a claim or in an image: mounted read-only, and only nodes that can mount it are capacity."""

from __future__ import annotations

from typing import Any

from diffusion_operator.kube.resources import (
    DEPLOYMENTS,
    JOBS,
    PERSISTENT_VOLUMES,
    PODS,
    JsonObject,
)
from unit.reconcile.model_jobs import claim, end, job, store, told_facts
from unit.reconcile.worlds import World, demo, world

PVC = {"source": {"pvc": {"claimName": "weights", "path": "qwen/one"}}}


def local_volume(found: World, *nodes: str) -> None:
    """A PersistentVolume that these nodes reach."""
    for node in ("node-1", "node-2"):
        found.cluster.objects["nodes", "", node]["metadata"]["labels"]["kubernetes.io/hostname"] = node
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}}
    store(found, PERSISTENT_VOLUMES, {"metadata": {"name": "pv"}, "spec": {"nodeAffinity": affinity}})


async def looked_at(found: World, **spec: Any) -> JsonObject:
    found.cluster.submit(demo(**spec))
    await found.settle()
    inspect = job(found, "inspect")["spec"]["template"]["spec"]
    end(found, "inspect", told_facts(None))
    await found.settle()
    return dict(inspect)


async def test_a_claim_is_mounted_and_nothing_is_fetched() -> None:
    found = world(4)
    claim(found, "weights")
    inspect = await looked_at(found, model=PVC)
    (container,) = inspect["containers"]
    assert container["command"][-2:] == ["--model-path", "/models/weights/qwen/one"]
    mount = {"name": "model", "mountPath": "/models/weights", "readOnly": True}
    assert mount in container["volumeMounts"]
    spec = found.cluster.get_now(DEPLOYMENTS, "demo-h200")["spec"]["template"]["spec"]
    assert mount in spec["containers"][0]["volumeMounts"]
    assert {"name": "model", "persistentVolumeClaim": {"claimName": "weights"}} in spec["volumes"]
    assert "initContainers" not in spec
    assert found.cluster.names(JOBS) == []
    assert found.condition("ModelCached")["message"] == "the model is read from claim weights"
    assert found.condition("Ready")["status"] == "True"


async def test_an_image_is_mounted_as_a_volume() -> None:
    found = world(4)
    image = {"source": {"image": {"reference": "registry.example/qwen@sha256:1", "pullPolicy": "always"}}}
    inspect = await looked_at(found, model=image)
    volume = {
        "name": "model",
        "image": {"reference": "registry.example/qwen@sha256:1", "pullPolicy": "Always"},
    }
    assert volume in inspect["volumes"]
    spec = found.cluster.get_now(DEPLOYMENTS, "demo-h200")["spec"]["template"]["spec"]
    assert volume in spec["volumes"]
    folder = next(m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "model")["mountPath"]
    assert inspect["containers"][0]["command"][-1] == folder


async def test_an_api_server_that_drops_image_volumes_is_noticed() -> None:
    found = world(4)
    found.cluster.submit(demo(model={"source": {"image": {"reference": "registry.example/qwen:1"}}}))
    await found.settle()
    spec = job(found, "inspect")["spec"]["template"]["spec"]
    spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] != "model"]
    await found.settle()
    assert found.condition("Stalled")["status"] == "True"
    assert "feature gate ImageVolume" in found.condition("ModelCached")["message"]


async def test_a_claim_that_is_missing_is_named_and_waited_for() -> None:
    found = world(4)
    found.cluster.submit(demo(model=PVC))
    await found.settle()
    assert found.cluster.names(JOBS) == []
    ready = found.condition("Ready")
    assert ready["reason"] == "ClaimNotFound"
    assert "no PersistentVolumeClaim weights" in ready["message"]
    assert found.condition("Stalled")["status"] == "False"
    claim(found, "weights")
    await found.settle()
    assert found.condition("Ready")["reason"] == "Inspecting"


async def test_nodes_that_do_not_reach_the_volume_are_no_capacity() -> None:
    found = world(4, 1)
    local_volume(found, "node-2")
    claim(found, "weights", volume="pv")
    await looked_at(found, model=PVC, replicas=2)
    assert found.status()["placements"][0]["replicas"] == 1
    assert "node-2" in found.condition("Reconciling")["message"]
    spec = found.cluster.get_now(DEPLOYMENTS, "demo-h200")["spec"]["template"]["spec"]
    (term,) = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert term["matchExpressions"] == [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node-2"]}
    ]


async def test_no_node_reaches_the_volume() -> None:
    found = world(4, 1)
    local_volume(found, "node-9")
    claim(found, "weights", volume="pv")
    await looked_at(found, model=PVC)
    ready = found.condition("Ready")
    assert (ready["reason"], found.condition("Stalled")["status"]) == ("NoGPUNodes", "True")
    assert "claim weights" in ready["message"]


async def test_a_volume_of_one_node_is_used_where_it_is_in_use() -> None:
    found = world(4, 4)
    claim(found, "weights", "ReadWriteOnce")
    user = {
        "metadata": {"name": "other", "namespace": "team"},
        "spec": {
            "nodeName": "node-2",
            "volumes": [{"name": "w", "persistentVolumeClaim": {"claimName": "weights"}}],
            "containers": [{"name": "c", "resources": {"limits": {"nvidia.com/gpu": "3"}}}],
        },
        "status": {"phase": "Running"},
    }
    store(found, PODS, user)
    found.cluster.objects[PODS.plural, "team", "other"]["metadata"]["ownerReferences"] = [
        {"uid": found.cluster.objects["nodes", "", "node-2"]["metadata"]["uid"]}
    ]
    await looked_at(found, model=PVC, parallelism={"gpusPerReplica": 4})
    assert found.cluster.names(DEPLOYMENTS) == []  # node-1 has four free, but not this volume
    assert found.condition("Ready")["reason"] == "InsufficientGPUs"
    assert "node-2 has 1 of 4 free" in found.condition("Ready")["message"]
