"""The NetworkPolicy of one deployment: who may reach its engines, port by port.

Incoming traffic only. It is a child of the deployment, because engines live in any namespace and a policy
works only in its own. Whether anything enforces it is up to the cluster's network plugin.
"""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.render.container import API_PORT, MANAGEMENT_PORT
from diffusion_operator.render.metadata import Manifest, child_metadata
from diffusion_operator.render.service import pod_selector
from diffusion_operator.render.settings import NetworkPolicySettings

# Set by Kubernetes itself on every namespace, so that nobody can pose as another one.
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"


def render_network_policy(dd: DiffusionDeployment, settings: NetworkPolicySettings) -> Manifest:
    """Management port: the operator's and the monitoring namespaces. API port: `api_from`, empty for anybody.

    The kubelet's probes come from the pod's own node, which no NetworkPolicy shuts out.
    """
    trusted = dict.fromkeys((settings.operator_namespace, *settings.monitoring_namespaces))
    api_rule: dict[str, Any] = {"ports": [{"port": API_PORT, "protocol": "TCP"}]}
    if settings.api_from:
        api_rule["from"] = [dict(peer) for peer in settings.api_from]
    management_rule = {
        "ports": [{"port": MANAGEMENT_PORT, "protocol": "TCP"}],
        "from": [
            {"namespaceSelector": {"matchLabels": {NAMESPACE_NAME_LABEL: namespace}}} for namespace in trusted
        ],
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": child_metadata(dd, dd.name),
        "spec": {
            "podSelector": {"matchLabels": pod_selector(dd)},
            "policyTypes": ["Ingress"],
            "ingress": [api_rule, management_rule],
        },
    }
