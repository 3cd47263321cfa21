"""A model folder on a PersistentVolumeClaim: looked at by a Job, mounted read-only, and it draws.

Also the real API server's word on the Jobs: it accepts them, and the operator's rights suffice for all of it.
"""

from __future__ import annotations

import base64
import json

from cluster.room import Room, manifest
from cluster.watching import Object
from localcluster.settings import OPERATOR_NAMESPACE

CLAIM = "weights"
FOLDER = "/var/lib/diffusion-operator-test-models"
COPY = "import shutil; shutil.copytree('/opt/diffusion/models/demo', '/models/qwen/one', dirs_exist_ok=True)"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def volume(room: Room) -> list[Object]:
    """A folder of the node as a volume, bound to a claim; only that node reaches it."""
    name = f"{room.namespace}-{CLAIM}"
    (node,) = json.loads(room.kubectl("get", "nodes", "-o", "json"))["items"]
    host = {
        "key": "kubernetes.io/hostname",
        "operator": "In",
        "values": [node["metadata"]["labels"]["kubernetes.io/hostname"]],
    }
    common = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "",
        "volumeName": name,
        "resources": {"requests": {"storage": "1Gi"}},
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": "1Gi"},
                "accessModes": ["ReadWriteMany"],
                "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain",
                "hostPath": {"path": FOLDER, "type": "DirectoryOrCreate"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [host]}]}},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": CLAIM, "namespace": room.namespace},
            "spec": common,
        },
    ]


def filler(room: Room) -> Object:
    """Copies the engine image's own small model onto the claim."""
    operator = json.loads(room.cluster.kubectl("-n", OPERATOR_NAMESPACE, "get", "deployments", "-o", "json"))
    (container,) = operator["items"][0]["spec"]["template"]["spec"]["containers"]
    image = next(entry["value"] for entry in container["env"] if entry["name"] == "DIFFUSION_ENGINE_IMAGE")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "filler", "namespace": room.namespace},
        "spec": {
            "restartPolicy": "Never",
            "tolerations": [{"operator": "Exists"}],
            "securityContext": {"runAsUser": 0},
            "containers": [
                {
                    "name": "copy",
                    "image": image,
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["python", "-c", COPY],
                    "volumeMounts": [{"name": "weights", "mountPath": "/models"}],
                }
            ],
            "volumes": [{"name": "weights", "persistentVolumeClaim": {"claimName": CLAIM}}],
        },
    }


def test_a_model_on_a_claim_draws(room: Room) -> None:
    source = {"pvc": {"claimName": CLAIM, "path": "qwen/one"}}
    room.apply(manifest("model", model={"source": source}))
    room.await_dd(
        "model",
        lambda dd: "ClaimNotFound" in [c["reason"] for c in dd.get("status", {}).get("conditions", [])],
        "names the claim that is missing",
        60,
    )
    try:
        room.apply(*volume(room), filler(room))
        room.kubectl("wait", "pod/filler", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=120s")
        room.kubectl("delete", "pod", "filler")
        found = room.await_ready("model")
        (pod,) = room.pods("model")
        engine = next(entry for entry in pod["spec"]["containers"] if entry["name"] == "engine")
        mount = next(entry for entry in engine["volumeMounts"] if entry["name"] == "model")
        assert (mount["mountPath"], mount["readOnly"]) == (f"/models/{CLAIM}", True)
        assert found["status"]["plan"]["model"] == f"pvc/{CLAIM}/qwen/one"
        jobs = json.loads(room.kubectl("get", "jobs", "-o", "json"))["items"]
        assert jobs == []
        with room.client("model") as client:
            name = f"pvc/{CLAIM}/qwen/one"
            answer = client.images.generate(model=name, prompt="a red circle", size="128x128")
        assert answer.data is not None
        assert base64.b64decode(answer.data[0].b64_json or "").startswith(PNG_SIGNATURE)
    finally:
        room.cluster.kubectl(
            "delete", "pv", f"{room.namespace}-{CLAIM}", "--wait=false", "--ignore-not-found"
        )
