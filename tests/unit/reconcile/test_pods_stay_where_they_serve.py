"""A node that takes no new pods, or lost its product label, keeps its pods and what was promised to them."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.kube.resources import DEPLOYMENTS, NODES, PODS
from unit.reconcile.fakecluster import GPU
from unit.reconcile.worlds import World, demo, world

PRODUCT = f"{GPU}.product"


async def serving(*nodes: int, **spec: Any) -> tuple[World, dict[str, Any]]:
    """A deployment that serves, and what there is of it beside its status."""
    made = world(*nodes)
    made.cluster.submit(demo(**spec))
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    return made, children(made)


def children(made: World) -> dict[str, Any]:
    return {key: obj for key, obj in made.cluster.state().items() if not key.startswith("diffusion")}


def pods(made: World) -> set[str]:
    return {made.cluster.get_now(PODS, name)["metadata"]["uid"] for name in made.cluster.names(PODS)}


def cordon(made: World, name: str) -> None:
    made.cluster.get_now(NODES, name, "")["spec"]["unschedulable"] = True


def taint(made: World, name: str) -> None:
    effect = {"key": "example.org/maintenance", "effect": "NoSchedule"}
    made.cluster.get_now(NODES, name, "")["spec"]["taints"] = [effect]


@pytest.mark.parametrize("spoil", [cordon, taint])
@pytest.mark.parametrize("nodes", [(2,), (2, 2)])
async def test_it_stays_ready_on_a_node_that_takes_no_new_pods(spoil: Any, nodes: tuple[int, ...]) -> None:
    made, before = await serving(*nodes, gpus=2)
    kept, promised = pods(made), made.status()["placements"]
    spoil(made, "node-1")
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    assert made.condition("Stalled")["status"] == "False"
    assert (children(made), pods(made), made.status()["placements"]) == (before, kept, promised)


async def test_new_replicas_go_elsewhere_or_wait() -> None:
    made, _ = await serving(2, 1)
    cordon(made, "node-1")
    made.cluster.submit(demo(replicas=3))
    await made.settle()
    # One stays on the cordoned node, one fits the other; the free GPU beside the first does not count.
    assert sum(placement["replicas"] for placement in made.status()["placements"]) == 2
    assert made.condition("Ready")["status"] == "True"
    assert made.condition("Reconciling")["reason"] == "InsufficientGPUs"


async def test_pods_keep_their_group_when_the_product_label_is_gone() -> None:
    made, before = await serving(2, gpus=2)
    kept, promised = pods(made), made.status()["placements"]
    labels = made.cluster.get_now(NODES, "node-1", "")["metadata"]["labels"]
    product = labels.pop(PRODUCT)
    await made.settle()
    assert (children(made), pods(made), made.status()["placements"]) == (before, kept, promised)
    assert made.condition("Ready")["status"] == "True"
    degraded = made.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "UnknownHardware")
    assert f"node node-1: its label {PRODUCT} is gone" in degraded["message"]
    labels[PRODUCT] = product
    await made.settle()
    assert made.condition("Degraded")["status"] == "False"


async def test_pods_keep_their_group_when_all_labels_are_gone() -> None:
    made, before = await serving(2, gpus=2)
    labels = made.cluster.get_now(NODES, "node-1", "")["metadata"]["labels"]
    labels.clear()
    await made.settle()
    assert children(made) == before
    assert made.condition("Ready")["status"] == "True"
    assert made.condition("Degraded")["reason"] == "UnknownHardware"


async def test_another_wish_does_not_count_on_a_node_without_its_label() -> None:
    made, _ = await serving(2, gpus=2)
    made.cluster.get_now(NODES, "node-1", "")["metadata"]["labels"].clear()
    await made.settle()
    (before,) = made.cluster.names(DEPLOYMENTS)
    made.cluster.submit(demo(gpus=1))
    await made.settle()
    assert made.condition("Stalled")["reason"] == "UnknownHardware"
    assert made.cluster.names(DEPLOYMENTS) == [before]
    assert made.status()["readyReplicas"] == 1
