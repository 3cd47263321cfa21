"""The PodDisruptionBudget: drains take one replica at a time and never wait for ever for a single one."""

from __future__ import annotations

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.render.metadata import Manifest, child_metadata
from diffusion_operator.render.service import pod_selector


def render_pod_disruption_budget(dd: DiffusionDeployment) -> Manifest:
    """At most one replica away. With one replica that allows the drain, which minAvailable 1 would block."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": child_metadata(dd, dd.name),
        "spec": {
            "maxUnavailable": 1,
            "selector": {"matchLabels": pod_selector(dd)},
            # Pods that do not serve protect nothing.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
