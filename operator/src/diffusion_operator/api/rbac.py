"""What the operator and the node agent may do in the cluster, each rule with its reason.

The chart's ClusterRoles are generated from it.

No verb on Secrets, and none on objects of other owners beyond reading nodes and pods.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from diffusion_operator.api.gpu_node import GPU_NODE_PLURAL
from diffusion_operator.api.names import API_GROUP, PLURAL


@dataclass(frozen=True)
class Rule:
    """One rule. `reason` becomes a comment in the chart."""

    groups: tuple[str, ...]
    resources: tuple[str, ...]
    verbs: tuple[str, ...]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """The rule as RBAC spells it."""
        return {"apiGroups": list(self.groups), "resources": list(self.resources), "verbs": list(self.verbs)}


_WATCH = ("get", "list", "watch")
# Server-side apply of a missing object needs create beside patch.
_MAKE = (*_WATCH, "create", "patch")
_OWN = (*_MAKE, "delete")

CLUSTER_RULES: tuple[Rule, ...] = (
    Rule((API_GROUP,), (PLURAL,), _WATCH, "read what users want; the spec is never written"),
    Rule((API_GROUP,), (f"{PLURAL}/status",), ("patch",), "say what was decided and what runs"),
    Rule(("",), ("nodes",), ("list", "watch"), "GPUs, labels, taints and readiness of nodes"),
    Rule((API_GROUP,), (GPU_NODE_PLURAL,), ("list", "watch"), "what node agents saw on the GPUs"),
    Rule(("",), ("pods",), ("list", "watch"), "what pods already request, and how engine pods fare"),
    Rule(
        ("",),
        ("resourcequotas",),
        ("list", "watch"),
        "how many GPUs and pods a namespace may have, and how many it has",
    ),
    Rule(
        ("",),
        ("persistentvolumeclaims", "persistentvolumes"),
        ("list", "watch"),
        "which nodes can mount the volume that holds a model",
    ),
    Rule(
        ("",),
        ("serviceaccounts", "services"),
        _MAKE,
        "identities and addresses of engines; garbage collection deletes them",
    ),
    Rule(("",), ("configmaps",), _OWN, "plans, deleted when no pod follows them any more"),
    Rule(("apps",), ("deployments",), _OWN, "the pods of each hardware group"),
    Rule(("batch",), ("jobs",), _OWN, "look at a model and fetch it, before GPUs are asked for"),
    Rule(
        ("apps",),
        ("replicasets",),
        ("list", "watch"),
        "which plans old pods may still name, before one is deleted",
    ),
    Rule(("policy",), ("poddisruptionbudgets",), _MAKE, "drains take one replica at a time"),
    Rule(("networking.k8s.io",), ("networkpolicies",), _OWN, "who may reach the ports of engines"),
    Rule(
        ("monitoring.coreos.com",),
        ("servicemonitors",),
        ("get", "list", "create", "patch", "delete"),
        "spec.monitoring, where the Prometheus operator is installed",
    ),
    Rule(
        ("events.k8s.io",), ("events",), ("create", "patch"), "decisions, refusals and recoveries as Events"
    ),
)

# In the namespace that the operator runs in, and nowhere else.
OWN_RULES: tuple[Rule, ...] = (
    Rule(
        ("coordination.k8s.io",),
        ("leases",),
        ("get", "create", "update"),
        "which of the replicas writes",
    ),
)

# An admission policy of the chart narrows the second rule to the object named after the agent's own node.
AGENT_RULES: tuple[Rule, ...] = (
    Rule(("",), ("nodes",), ("get",), "the uid of its node, which then owns the report"),
    Rule(
        (API_GROUP,),
        (GPU_NODE_PLURAL,),
        ("get", "create", "patch"),
        "its report, and its predecessor's at start",
    ),
)
