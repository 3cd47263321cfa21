"""Whether a pod with a given selection may run on a node, in the scheduler's own terms, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusion_operator.inventory.objects import Node
from diffusion_operator.inventory.selection import Expression, Mount, NodeSelection, Taint, Toleration

_UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "NoSchedule")
_TRANSIENT_PREFIXES = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a node cannot be used. `down` passes by itself; the others need a change."""

    kind: Literal["down", "taint", "label", "volume"]
    text: str


def unfit(node: Node, selection: NodeSelection) -> Unfit | None:
    """None when the node can be used. Labels come first: they say whether the node is meant at all."""
    mismatch = label_mismatch(node, selection)
    if mismatch:
        return Unfit("label", mismatch)
    for mount in selection.mounts:
        unreachable = _unreachable(node, mount)
        if unreachable:
            return Unfit("volume", f"cannot mount claim {mount.claim}: {unreachable}")
    for taint in node.taints:
        if not taint.key.startswith(_TRANSIENT_PREFIXES) and not tolerated(taint, selection.tolerations):
            value = f"={taint.value}" if taint.value else ""
            return Unfit("taint", f"taint {taint.key}{value}:{taint.effect}")
    if not node.ready:
        return Unfit("down", "not ready")
    if node.unschedulable and not tolerated(_UNSCHEDULABLE, selection.tolerations):
        return Unfit("down", "cordoned")
    for taint in node.taints:
        if not tolerated(taint, selection.tolerations):
            return Unfit("down", f"taint {taint.key}:{taint.effect}")
    return None


def label_mismatch(node: Node, selection: NodeSelection) -> str | None:
    """The first label requirement that the node does not meet, in words."""
    for key, value in sorted(selection.node_selector.items()):
        if node.labels.get(key) != value:
            return f"label {key} is {node.labels.get(key, 'absent')}, not {value}"
    if selection.terms and not any(all(_holds(e, node) for e in term) for term in selection.terms if term):
        return "no term of the node affinity holds"
    return None


def _unreachable(node: Node, mount: Mount) -> str | None:
    if mount.terms and not any(all(_holds(e, node) for e in term) for term in mount.terms if term):
        return "its volume is not reachable from there"
    if mount.only_node not in (None, node.name):
        return f"its volume is for one node at a time and in use on {mount.only_node}"
    return None


def tolerated(taint: Taint, tolerations: tuple[Toleration, ...]) -> bool:
    """PreferNoSchedule never keeps a pod away."""
    return taint.effect == "PreferNoSchedule" or any(_tolerates(t, taint) for t in tolerations)


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect not in ("", taint.effect):
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    return toleration.key == taint.key and toleration.value == taint.value


def _holds(expression: Expression, node: Node) -> bool:
    value = node.labels.get(expression.key)
    match expression.operator:
        case "In":
            return value in expression.values
        case "NotIn":
            return value not in expression.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(expression, value)
    return False


def _compares(expression: Expression, value: str | None) -> bool:
    try:
        left, right = int(value or ""), int(expression.values[0])
    except (ValueError, IndexError):
        return False
    return left > right if expression.operator == "Gt" else left < right
