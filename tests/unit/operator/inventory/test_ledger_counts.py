"""Free GPUs: allocatable less bound pods less reservations, as one owner sees them."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.inventory.claims import pack
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.inventory.ledger_build import build_ledger
from diffusion_operator.inventory.objects import ManagedDeployment, parse_node, parse_pod
from diffusion_operator.inventory.selection import NodeSelection
from wrappers import NodeBuilder, PodBuilder

GPU = "nvidia.com/gpu"


def ledger(
    nodes: list[NodeBuilder], pods: list[PodBuilder], deployments: tuple[ManagedDeployment, ...] = ()
) -> Ledger:
    return build_ledger(
        [parse_node(n.build()) for n in nodes], [parse_pod(p.build()) for p in pods], deployments
    )


def deployment(replicas: int, gpus: int, **changes: Any) -> ManagedDeployment:
    fields = {
        "owner": "default/a",
        "name": "a-h200",
        "group": "h200",
        "plan_hash": "new",
        "resource_name": GPU,
    }
    return ManagedDeployment(**(fields | {"replicas": replicas, "gpus_per_pod": gpus} | changes))


def free(found: Ledger, owner: str | None = None) -> dict[str, int]:
    return {view.node.name: view.free for view in found.capacity(owner, GPU)}


def own_pod(name: str, gpus: int, node: str, plan_hash: str = "new") -> PodBuilder:
    return PodBuilder(name).gpus(gpus).on(node).owned_by("a", "h200", plan_hash)


def test_foreign_pods_hold_until_they_end() -> None:
    pods = [
        PodBuilder("running").gpus(2).on("n"),
        PodBuilder("done").gpus(1).on("n").phase("Succeeded"),
        PodBuilder("failed").gpus(1).on("n").phase("Failed"),
        PodBuilder("leaving").gpus(1).on("n").terminating(),
        PodBuilder("unbound").gpus(4),
        PodBuilder("elsewhere").gpus(4).on("gone"),
    ]
    assert free(ledger([NodeBuilder("n").gpus(8)], pods)) == {"n": 5}


def test_own_pods_and_reservations_are_free_for_the_owner_only() -> None:
    found = ledger([NodeBuilder("n").gpus(8)], [own_pod("p", 2, "n")], (deployment(2, 2),))
    assert free(found) == {"n": 4}
    assert free(found, "default/a") == {"n": 8}
    assert free(found, "default/b") == {"n": 4}
    assert len(found.held("default/a", GPU)) == 2


def test_holders_are_named_most_first() -> None:
    pods = [PodBuilder("small").gpus(1).on("n"), PodBuilder("big").gpus(3).on("n"), own_pod("p", 2, "n")]
    (view,) = ledger([NodeBuilder("n").gpus(8)], pods).capacity("default/b", GPU)
    assert view.holders == (("default/big", 3), ("default/a", 2), ("default/small", 1))


def test_reservations_fill_the_fullest_node_that_fits() -> None:
    nodes = [NodeBuilder("big").gpus(8), NodeBuilder("small").gpus(2)]
    assert free(ledger(nodes, [], (deployment(2, 2),))) == {"big": 6, "small": 0}


def test_reservations_go_where_the_pods_may_go() -> None:
    nodes = [
        NodeBuilder("a").gpus(2),
        NodeBuilder("b").gpus(2).label("zone", "x"),
        NodeBuilder("c").gpus(2).cordoned(),
    ]
    reserved = deployment(3, 2, selection=NodeSelection({"zone": "x"}))
    assert free(ledger(nodes, [], (reserved,))) == {"a": 2, "b": 0, "c": 2}


def test_what_fits_nowhere_is_not_reserved() -> None:
    assert free(ledger([NodeBuilder("n").gpus(3)], [], (deployment(2, 2),))) == {"n": 1}


@pytest.mark.parametrize(
    ("promised_gpus", "left"),
    [(0, {"a": 3, "b": 3, "c": 1}), (4, {"a": 0, "b": 2, "c": 1}), (8, {"a": 0, "b": 0, "c": 0})],
)
def test_a_promise_whose_place_was_taken_holds_as_many_gpus_elsewhere(
    promised_gpus: int, left: dict[str, int]
) -> None:
    nodes = [NodeBuilder("a").gpus(4), NodeBuilder("b").gpus(3), NodeBuilder("c").gpus(1)]
    taken = [PodBuilder("another's").gpus(1).on("a")]
    found = ledger(nodes, taken, (deployment(2, 4, promised_gpus=promised_gpus),))
    assert free(found) == left
    assert free(found, "default/a") == {"a": 3, "b": 3, "c": 1}
    assert found.held("default/a", GPU) == ()


def test_a_promise_that_has_its_pods_and_places_holds_no_more() -> None:
    nodes = [NodeBuilder("a").gpus(4), NodeBuilder("b").gpus(8)]
    found = ledger(nodes, [own_pod("p", 4, "a")], (deployment(2, 4, promised_gpus=8),))
    assert free(found) == {"a": 0, "b": 4}


def test_terminating_pod_still_needs_a_successor() -> None:
    pods = [own_pod("p", 2, "n").terminating()]
    assert free(ledger([NodeBuilder("n").gpus(8)], pods, (deployment(1, 2),))) == {"n": 4}


def test_growing_pods_reserve_the_difference_where_they_are() -> None:
    found = ledger([NodeBuilder("n").gpus(8)], [own_pod("p", 1, "n", "old")], (deployment(1, 4),))
    assert free(found) == {"n": 4}
    assert len(found.held("default/a", GPU)) == 1


def test_overcommitted_node_has_nothing_free() -> None:
    assert free(ledger([NodeBuilder("n").gpus(2)], [PodBuilder("p").gpus(4).on("n")])) == {"n": 0}


def test_host_memory_counts_pods_without_gpus() -> None:
    found = ledger(
        [NodeBuilder("n").gpus(1).memory("4Gi")], [PodBuilder("web").request("memory", "3Gi").on("n")]
    )
    (view,) = found.capacity(None, GPU)
    assert view.host_free_bytes == 2**30


def test_free_nodes_leaves_out_full_and_unfit_nodes() -> None:
    nodes = [NodeBuilder("full").gpus(1), NodeBuilder("ok").gpus(1), NodeBuilder("down").gpus(1).not_ready()]
    found = ledger(nodes, [PodBuilder("p").gpus(1).on("full")])
    assert [view.node.name for view in found.free_nodes(None, GPU)] == ["ok"]


@pytest.mark.parametrize(
    ("gpus", "count", "places"),
    [(2, 3, ["b", "a", "a"]), (4, 2, ["a"]), (5, 1, []), (1, 0, []), (0, 2, [])],
)
def test_pack(gpus: int, count: int, places: list[str]) -> None:
    assert pack({"a": 4, "b": 3}, gpus, count) == places
