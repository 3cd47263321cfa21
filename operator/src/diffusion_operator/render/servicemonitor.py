"""The ServiceMonitor of one deployment, for clusters that run the Prometheus operator.

It finds the pods through the Service but scrapes the management port, which the Service does not offer:
`targetPort` names the port of the container behind it.
"""

from __future__ import annotations

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.names import LABEL_DEPLOYMENT
from diffusion_operator.render.container import MANAGEMENT_PORT_NAME
from diffusion_operator.render.metadata import Manifest, child_metadata
from diffusion_operator.render.service import pod_selector


def render_service_monitor(dd: DiffusionDeployment) -> Manifest | None:
    """The ServiceMonitor, or None where the spec asks for none. Our own labels win over the user's."""
    monitoring = dd.spec.monitoring
    if monitoring is None or not monitoring.service_monitor:
        return None
    metadata = child_metadata(dd, dd.name)
    metadata["labels"] = {**(monitoring.labels or {}), **metadata["labels"]}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "ServiceMonitor",
        "metadata": metadata,
        "spec": {
            "selector": {"matchLabels": pod_selector(dd)},
            # By this label dashboards, alerts and autoscalers tell one deployment's series from another's.
            "targetLabels": [LABEL_DEPLOYMENT],
            "endpoints": [{"targetPort": MANAGEMENT_PORT_NAME, "path": "/metrics"}],
        },
    }
