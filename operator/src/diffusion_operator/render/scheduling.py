"""Where a pod may run: the user's selection, and the pin to the hardware group that the plan was made for."""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.selection import Toleration
from diffusion_operator.placement.decision import GroupDecision

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def scheduling_fields(dd: DiffusionDeployment, group: GroupDecision) -> dict[str, Any]:
    """nodeSelector, tolerations and affinity of a pod spec. Nodes are never named, only products."""
    hardware = dd.spec.hardware.to_dict() if dd.spec.hardware else {}
    own = {"key": group.resource_name, "operator": "Exists"}
    tolerations = [own, *(t for t in hardware.get("tolerations", []) if t != own)]
    tolerations += [t for t in map(_toleration, group.tolerations) if t not in tolerations]
    fields: dict[str, Any] = {
        "nodeSelector": {**hardware.get("nodeSelector", {}), **group.node_selector},
        "tolerations": tolerations,
    }
    affinity = dd.spec.pod.affinity.to_dict() if dd.spec.pod and dd.spec.pod.affinity else {}
    if group.without_label:
        affinity = _without_label(affinity, group.without_label)
    return fields | ({"affinity": affinity} if affinity else {})


def _toleration(toleration: Toleration) -> dict[str, Any]:
    """Of a node pool; in Kubernetes' spelling, without what is empty."""
    fields = {
        "key": toleration.key,
        "operator": toleration.operator,
        "value": toleration.value,
        "effect": toleration.effect,
    }
    return {name: value for name, value in fields.items() if value}


def _without_label(affinity: dict[str, Any], label: str) -> dict[str, Any]:
    """Add "this label is absent" to every alternative of the required node affinity."""
    absent = {"key": label, "operator": "DoesNotExist"}
    node_affinity = affinity.get("nodeAffinity", {})
    terms = node_affinity.get(_REQUIRED, {}).get("nodeSelectorTerms") or [{"matchExpressions": []}]
    narrowed = [{"matchExpressions": [*term["matchExpressions"], absent]} for term in terms]
    return {**affinity, "nodeAffinity": {**node_affinity, _REQUIRED: {"nodeSelectorTerms": narrowed}}}
