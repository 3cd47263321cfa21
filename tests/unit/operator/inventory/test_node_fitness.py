"""Which nodes a pod may use: labels, taints, cordon, readiness, as the scheduler sees them."""

from __future__ import annotations

import pytest

from diffusion_operator.inventory.matching import unfit
from diffusion_operator.inventory.objects import parse_node
from diffusion_operator.inventory.selection import Expression, NodeSelection, Toleration
from wrappers import NodeBuilder

ALL = Toleration(operator="Exists")


def kind(node: NodeBuilder, selection: NodeSelection) -> str | None:
    found = unfit(parse_node(node.build()), selection)
    return found.kind if found else None


@pytest.mark.parametrize(
    ("node", "tolerations", "expected"),
    [
        (NodeBuilder("n"), (), None),
        (NodeBuilder("n").not_ready(), (ALL,), "down"),
        (NodeBuilder("n").cordoned(), (), "down"),
        (NodeBuilder("n").cordoned(), (ALL,), None),
        (NodeBuilder("n").taint("node.kubernetes.io/disk-pressure"), (), "down"),
        (NodeBuilder("n").taint("gpu"), (), "taint"),
        (NodeBuilder("n").taint("gpu", "PreferNoSchedule"), (), None),
        (NodeBuilder("n").taint("gpu"), (Toleration("gpu", "Exists"),), None),
        (NodeBuilder("n").taint("gpu", value="a"), (Toleration("gpu", value="a"),), None),
        (NodeBuilder("n").taint("gpu", value="a"), (Toleration("gpu", value="b"),), "taint"),
        (
            NodeBuilder("n").taint("gpu", "NoExecute"),
            (Toleration("gpu", "Exists", effect="NoSchedule"),),
            "taint",
        ),
        (NodeBuilder("n").taint("gpu").not_ready(), (), "taint"),
    ],
)
def test_taints_and_state(
    node: NodeBuilder, tolerations: tuple[Toleration, ...], expected: str | None
) -> None:
    assert kind(node, NodeSelection(tolerations=tolerations)) == expected


@pytest.mark.parametrize(
    ("expression", "fits"),
    [
        (Expression("zone", "In", ("a", "b")), True),
        (Expression("zone", "In", ("c",)), False),
        (Expression("zone", "NotIn", ("a",)), False),
        (Expression("other", "NotIn", ("a",)), True),
        (Expression("zone", "Exists"), True),
        (Expression("other", "Exists"), False),
        (Expression("other", "DoesNotExist"), True),
        (Expression("gpus", "Gt", ("7",)), True),
        (Expression("gpus", "Lt", ("8",)), False),
        (Expression("zone", "Gt", ("1",)), False),
        (Expression("zone", "Near", ("a",)), False),
    ],
)
def test_node_affinity(expression: Expression, fits: bool) -> None:
    node = NodeBuilder("n").label("zone", "a").label("gpus", "8")
    assert (kind(node, NodeSelection(terms=((expression,),))) is None) is fits


def test_affinity_terms_are_alternatives_and_selector_is_not() -> None:
    node = NodeBuilder("n").label("zone", "a")
    either = ((Expression("zone", "In", ("b",)),), (Expression("zone", "In", ("a",)),))
    assert kind(node, NodeSelection(terms=either)) is None
    assert kind(node, NodeSelection({"zone": "b"}, terms=either)) == "label"
