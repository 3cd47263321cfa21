"""A roll-out that began with a spare GPU ends even when that GPU, or its quota, goes to somebody else."""

from __future__ import annotations

import copy

import pytest

from diffusion_operator.kube.resources import DEPLOYMENTS, PODS
from unit.reconcile.worlds import World, demo, world

CHANGED = {"workload": {"shapes": [{"width": 64, "height": 64, "steps": 8}]}}


def strategy(made: World) -> str:
    return str(made.cluster.get_now(DEPLOYMENTS, "demo-h200")["spec"]["strategy"]["type"])


def saw(made: World, **status: object) -> None:
    """The deployment controller has seen the last change and says this."""
    deployment = made.cluster.get_now(DEPLOYMENTS, "demo-h200")
    deployment["status"] |= {"observedGeneration": deployment["metadata"]["generation"], **status}


async def changed() -> World:
    """One pod serves and a GPU is spare when the spec changes; no controller has acted yet."""
    made = world(2)
    made.cluster.submit(demo())
    await made.settle()
    made.cluster.submit(demo(**CHANGED))
    await made.reconcile()
    assert strategy(made) == "RollingUpdate"
    return made


async def surging(homeless_s: float) -> World:
    """The old pod serves; the new one has been without a node for so long, and no GPU is free."""
    made = await changed()
    made.cluster.set_gpus("node-1", 1)
    deployment = made.cluster.get_now(DEPLOYMENTS, "demo-h200")
    (serving,) = made.cluster.names(PODS)
    old = made.cluster.get_now(PODS, serving)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert old["metadata"]["labels"] != labels
    new = copy.deepcopy(old)
    new["metadata"] |= {"name": "surge", "labels": labels}
    del new["spec"]["nodeName"]
    new["status"] = {"phase": "Pending", "conditions": [made.unschedulable(homeless_s)]}
    made.cluster.add_pod(new)
    saw(made, replicas=2, updatedReplicas=1)
    return made


@pytest.mark.parametrize(("homeless_s", "expected"), [(5, "RollingUpdate"), (31, "Recreate")])
async def test_the_old_pod_makes_room_once_the_new_one_has_waited(homeless_s: float, expected: str) -> None:
    made = await surging(homeless_s)
    await made.reconcile()
    assert strategy(made) == expected


async def test_nobody_waits_for_a_quota_that_others_used_up_either() -> None:
    made = await changed()
    made.limit_gpus(1, used=1)
    refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    saw(made, replicas=1, updatedReplicas=0, conditions=[refused])
    await made.reconcile()
    assert strategy(made) == "Recreate"


async def test_it_ends_and_serves_the_new_plan() -> None:
    made = await surging(31)
    await made.reconcile()
    wanted = made.status()["plan"]["hash"]
    made.cluster.run_controllers()
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    assert made.status()["plan"]["hash"] == wanted
    assert len(made.cluster.names(PODS)) == 1
