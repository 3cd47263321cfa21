"""The Service in front of the API port. The management port is never part of it."""

from __future__ import annotations

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.names import APP_NAME, LABEL_DEPLOYMENT, LABEL_NAME
from diffusion_operator.render.metadata import Manifest, child_metadata

DEFAULT_PORT = 80
_TYPES = {"clusterIP": "ClusterIP", "nodePort": "NodePort", "loadBalancer": "LoadBalancer"}


def pod_selector(dd: DiffusionDeployment) -> dict[str, str]:
    """Labels by which Service and PodDisruptionBudget find the pods of all groups."""
    return {LABEL_NAME: APP_NAME, LABEL_DEPLOYMENT: dd.name}


def service_port(dd: DiffusionDeployment) -> int:
    """Port under which the API is reached."""
    return (dd.spec.service.port if dd.spec.service else None) or DEFAULT_PORT


def render_service(dd: DiffusionDeployment) -> Manifest:
    """One Service for all groups of a deployment."""
    kind = (dd.spec.service.type if dd.spec.service else None) or "clusterIP"
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": child_metadata(dd, dd.name),
        "spec": {
            "type": _TYPES[kind],
            "selector": pod_selector(dd),
            "ports": [{"name": "http", "port": service_port(dd), "targetPort": "http", "protocol": "TCP"}],
        },
    }
