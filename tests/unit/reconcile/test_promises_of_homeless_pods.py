"""A promise ends for a pod that the scheduler cannot place, and comes back when there is room again."""

from __future__ import annotations

import pytest

from diffusion_operator.kube.resources import PODS
from unit.reconcile.worlds import World, demo, world


def homeless(made: World, seconds_ago: float) -> None:
    """The scheduler says of the one pod that it found no node."""
    (name,) = made.cluster.names(PODS)
    made.cluster.get_now(PODS, name)["status"]["conditions"] = [made.unschedulable(seconds_ago)]


@pytest.mark.parametrize(("seconds_ago", "promised"), [(5, 1), (31, 0)])
async def test_nothing_is_promised_to_a_pod_without_a_place(seconds_ago: float, promised: int) -> None:
    made = world(8)
    made.cluster.submit(demo(gpus=8))
    await made.reconcile()
    made.cluster.set_gpus("node-1", 4)  # somebody else's pods lie where the promise lay
    made.cluster.run_controllers()
    homeless(made, seconds_ago)
    await made.reconcile()
    placements = made.status().get("placements", [])
    assert sum(placement["replicas"] for placement in placements) == promised
    assert made.condition("Ready")["status"] == "False"
    made.cluster.set_gpus("node-1", 8)
    await made.settle()
    assert [placement["replicas"] for placement in made.status()["placements"]] == [1]
    assert made.condition("Ready")["status"] == "True"
