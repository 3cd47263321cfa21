"""Which nodes a pod may use: node selector, required node affinity and tolerations, as parsed objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diffusion_operator.inventory.requests import part


@dataclass(frozen=True, slots=True)
class Taint:
    """A node taint; effect is NoSchedule, PreferNoSchedule or NoExecute."""

    key: str
    effect: str
    value: str = ""


@dataclass(frozen=True, slots=True)
class Toleration:
    """A pod toleration. As in Kubernetes, an empty key means all keys, an empty effect all effects."""

    key: str = ""
    operator: str = "Equal"
    value: str = ""
    effect: str = ""


@dataclass(frozen=True, slots=True)
class Expression:
    """One requirement on a node label: In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mount:
    """A claim that pods mount. `terms`: nodes that reach its volume, as in a node affinity; empty: all.

    `only_node`: the one node that a volume for a single node is in use on; None while it is free.
    """

    claim: str
    terms: tuple[tuple[Expression, ...], ...] = ()
    only_node: str | None = None


@dataclass(frozen=True, slots=True)
class NodeSelection:
    """Which nodes a pod may use. `terms` are alternatives (OR) of expressions (AND); empty means any."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    terms: tuple[tuple[Expression, ...], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    mounts: tuple[Mount, ...] = ()


def parse_selection(pod_spec: Mapping[str, Any]) -> NodeSelection:
    """Node selector, required node affinity and tolerations of a pod spec."""
    affinity = part(part(pod_spec, "affinity"), "nodeAffinity")
    required = part(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
    terms = parse_terms(required)
    tolerations = tuple(
        Toleration(
            key=str(t.get("key") or ""),
            operator=str(t.get("operator") or "Equal"),
            value=str(t.get("value") or ""),
            effect=str(t.get("effect") or ""),
        )
        for t in pod_spec.get("tolerations") or ()
    )
    return NodeSelection(dict(part(pod_spec, "nodeSelector")), terms, tolerations)


def parse_terms(node_selector: Mapping[str, Any]) -> tuple[tuple[Expression, ...], ...]:
    """Alternatives of expressions of a v1.NodeSelector."""
    return tuple(
        tuple(
            Expression(
                key=str(e["key"]), operator=str(e["operator"]), values=tuple(map(str, e.get("values") or ()))
            )
            for e in term.get("matchExpressions") or ()
        )
        for term in node_selector.get("nodeSelectorTerms") or ()
    )
