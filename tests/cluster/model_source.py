"""A model hub and object store in the cluster, with the demo model's files.

The test cluster's operator takes it for the public hub.
"""

from __future__ import annotations

from typing import Any

from cluster.room import Room
from localcluster.settings import REPOSITORY

NAME = "model-source"
PORT = 8080
ADDRESS = f"http://{NAME}.{NAME}.svc:{PORT}"
"""As pods reach it: the Service and its namespace have one name."""
SCRIPT = REPOSITORY / "tests" / "engine" / "loopback_hub.py"


def serve(room: Room, engine_image: str) -> None:
    """Until the namespace goes. The engine image has Python and the files."""
    labels = {"app": NAME}
    room.apply(_script(), _service(labels), _pod(labels, engine_image))
    room.kubectl("wait", "--for=condition=Ready", f"pod/{NAME}", "--timeout=120s")


def _script() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME},
        "data": {SCRIPT.name: SCRIPT.read_text()},
    }


def _service(labels: dict[str, str]) -> dict[str, Any]:
    ports = [{"port": PORT, "targetPort": PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"selector": labels, "ports": ports},
    }


def _pod(labels: dict[str, str], image: str) -> dict[str, Any]:
    container = {
        "name": "serve",
        "image": image,
        "imagePullPolicy": "Never",
        "command": ["python", f"/script/{SCRIPT.name}", "/opt/diffusion/models/demo", str(PORT)],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "script", "mountPath": "/script"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "labels": labels},
        "spec": {
            "containers": [container],
            "volumes": [{"name": "script", "configMap": {"name": NAME}}],
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        },
    }
