"""Where a pod may run: the user's selection, and the pin to the hardware group that the plan was made for."""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.selection import Expression, Mount, Toleration
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
        affinity = _narrowed(affinity, [[{"key": group.without_label, "operator": "DoesNotExist"}]])
    for mount in group.mounts:
        affinity = _narrowed(affinity, _reachable(mount))
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


def _reachable(mount: Mount) -> list[list[dict[str, Any]]]:
    """Where the volume is reached. The scheduler knows it too; written here, reservations count it."""
    return [[_expression(one) for one in term] for term in mount.terms if term]


def _expression(one: Expression) -> dict[str, Any]:
    return {"key": one.key, "operator": one.operator, **({"values": list(one.values)} if one.values else {})}


def _narrowed(affinity: dict[str, Any], alternatives: list[list[dict[str, Any]]]) -> dict[str, Any]:
    """Require one of these alternatives beside one of those that the required node affinity has."""
    if not alternatives:
        return affinity
    node_affinity = affinity.get("nodeAffinity", {})
    terms = node_affinity.get(_REQUIRED, {}).get("nodeSelectorTerms") or [{"matchExpressions": []}]
    both = [
        {"matchExpressions": [*term["matchExpressions"], *more]} for term in terms for more in alternatives
    ]
    return {**affinity, "nodeAffinity": {**node_affinity, _REQUIRED: {"nodeSelectorTerms": both}}}
