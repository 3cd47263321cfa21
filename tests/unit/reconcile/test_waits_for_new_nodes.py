"""Pods wait for nodes of a pool for fifteen minutes; then it is Stalled, and still heals by itself."""

from __future__ import annotations

import json

from diffusion_operator.inventory.pools import parse_pools
from diffusion_operator.kube.resources import PODS
from diffusion_operator.placement.groups import Terms
from unit.reconcile.worlds import World, demo, world

POOL = {
    "name": "spot",
    "product": "NVIDIA-H200",
    "gpusPerNode": 4,
    "maxNodes": 2,
    "nodeSelector": {"pool": "spot"},
}


async def unseen() -> World:
    """The pod is there, and no scheduler has looked at it."""
    made = world()
    made.cluster.stamp = made.stamp()
    made.restart_operator(terms=Terms(parse_pools(json.dumps([POOL]))))
    made.cluster.submit(demo(gpus=4))
    await made.reconcile()
    made.cluster.run_controllers()
    await made.reconcile()
    return made


async def waiting() -> World:
    made = await unseen()
    said = {**made.unschedulable(), "message": "0/0 nodes are available"}
    for (plural, *_), pod in made.cluster.objects.items():
        if plural == PODS.plural:
            pod["status"]["conditions"].append(said)
    await made.reconcile()
    return made


async def test_the_pod_exists_and_the_pool_and_gpus_are_named() -> None:
    made = await waiting()
    assert len(made.cluster.names(PODS)) == 1
    for kind in ("Ready", "Reconciling"):
        found = made.condition(kind)
        assert found["reason"] == "WaitingForNodes"
        assert "4 GPUs of pool spot" in found["message"]
    assert made.status()["placements"][0]["waitingForNodes"] == 1
    assert made.condition("Stalled")["status"] == "False"
    made.seconds += 60
    assert (await made.reconcile()).recheck_after_s is not None
    assert made.condition("Ready")["reason"] == "WaitingForNodes"


async def test_after_fifteen_minutes_it_is_stalled_also_for_a_new_process() -> None:
    made = await waiting()
    made.seconds += 15 * 60 + 1
    made.restart_operator()
    await made.reconcile()
    stalled = made.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "WaitingForNodes")
    assert "none came in 15 minutes" in stalled["message"]
    assert made.condition("Reconciling")["status"] == "False"
    assert len(made.cluster.names(PODS)) == 1


async def test_a_scheduler_that_says_nothing_does_not_make_it_wait_for_ever() -> None:
    made = await unseen()
    made.seconds += 15 * 60 - 1
    outcome = await made.reconcile()
    assert made.condition("Stalled")["status"] == "False"
    assert outcome.recheck_after_s is not None
    assert outcome.recheck_after_s <= 1
    made.seconds += 2
    await made.reconcile()
    stalled = made.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "WaitingForNodes")
    assert "none came in 15 minutes" in stalled["message"]


async def test_the_schedulers_word_counts_where_it_speaks() -> None:
    """A pod may wait for something else first, such as a gate or its claim."""
    made = await unseen()
    made.seconds += 600
    (name,) = made.cluster.names(PODS)
    made.cluster.get_now(PODS, name)["status"]["conditions"].append(made.unschedulable())
    made.seconds += 15 * 60 - 1
    await made.reconcile()
    assert made.condition("Stalled")["status"] == "False"
    made.seconds += 2
    await made.reconcile()
    assert made.condition("Stalled")["status"] == "True"


async def test_a_node_that_comes_serves_at_once() -> None:
    made = await waiting()
    made.seconds += 20 * 60
    await made.reconcile()
    assert made.condition("Stalled")["status"] == "True"
    made.cluster.add_node("new", 4)
    made.cluster.objects["nodes", "", "new"]["metadata"]["labels"]["pool"] = "spot"
    for key in [key for key in made.cluster.objects if key[0] == PODS.plural]:
        del made.cluster.objects[key]  # the scheduler binds it
    made.cluster.run_controllers()
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    assert made.condition("Stalled")["status"] == "False"
    (placement,) = made.status()["placements"]
    assert (placement["group"], placement.get("waitingForNodes")) == ("pool-spot", None)
