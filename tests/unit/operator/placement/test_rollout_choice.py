"""The strategy neither deadlocks on a full cluster nor stops more than it must."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.placement.decision import Rollout
from diffusion_operator.placement.rollout import choose_rollout
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder, PodBuilder

SURGE = Rollout("RollingUpdate", 1, 0)
RECREATE = Rollout("Recreate")


def rolling(unavailable: int) -> Rollout:
    return Rollout("RollingUpdate", 0, unavailable)


@pytest.mark.parametrize(
    ("strategy", "spare", "replicas", "new", "old", "expected"),
    [
        ("auto", True, 1, 2, 2, SURGE),
        ("auto", True, 4, 4, 1, SURGE),
        ("auto", False, 0, 1, 1, SURGE),
        ("auto", False, 1, 2, 2, RECREATE),
        ("auto", False, 2, 2, 2, rolling(1)),
        ("auto", False, 4, 4, 1, rolling(4)),
        ("auto", False, 4, 3, 2, rolling(2)),
        ("auto", False, 2, 8, 1, rolling(2)),
        ("auto", False, 4, 1, 4, rolling(1)),
        ("rollingUpdate", False, 1, 2, 2, rolling(1)),
        ("rollingUpdate", True, 1, 2, 2, SURGE),
        ("recreate", True, 4, 2, 2, RECREATE),
    ],
)
def test_table(strategy: str, spare: bool, replicas: int, new: int, old: int, expected: Rollout) -> None:
    spec = DiffusionDeployment.parse(Dd().set("rollout.strategy", strategy).build()).spec
    assert choose_rollout(spec, spare=spare, replicas=replicas, new_gpus=new, old_gpus=old) == expected


def test_full_node_is_recreated_and_a_free_gpu_surges() -> None:
    dd = Dd().gpus_per_replica(1)
    assert Scene([NodeBuilder("n").gpus(1)]).decide(dd).groups[0].rollout == RECREATE
    assert Scene([NodeBuilder("n").gpus(2)]).decide(dd).groups[0].rollout == SURGE


def test_surge_pod_does_not_change_the_strategy_that_made_it() -> None:
    dd = Dd().gpus_per_replica(1)
    world = Scene([NodeBuilder("n").gpus(2)])
    first = world.decide(dd)
    world.apply(dd, first)
    for name in ("old", "new"):
        world.pods.append(PodBuilder(name).gpus(1).on("n").owned_by("demo", "h200", name))
    assert world.decide(dd).groups[0].rollout == SURGE


def test_running_rollout_keeps_its_strategy() -> None:
    dd = Dd().gpus_per_replica(1)
    world = Scene([NodeBuilder("n").gpus(2)])
    world.apply(dd, world.decide(dd))
    (current,) = world.current["default/demo"]
    world.pods.append(PodBuilder("other").gpus(1).on("n"))
    assert world.decide(dd).groups[0].rollout == RECREATE
    world.current["default/demo"] = (replace(current, settled=False),)
    assert world.decide(dd).groups[0].rollout == SURGE


@pytest.mark.parametrize(("strategy", "kept"), [("auto", True), ("rollingUpdate", True), ("recreate", False)])
def test_a_strategy_that_the_user_names_rules_a_running_rollout_too(strategy: str, kept: bool) -> None:
    dd = Dd().gpus_per_replica(1)
    world = Scene([NodeBuilder("n").gpus(2)])
    world.apply(dd, world.decide(dd))
    (current,) = world.current["default/demo"]
    world.current["default/demo"] = (replace(current, settled=False),)
    world.pods.append(PodBuilder("other").gpus(1).on("n"))
    named = Dd().gpus_per_replica(1).set("rollout.strategy", strategy)
    assert world.decide(named).groups[0].rollout == (SURGE if kept else RECREATE)


def test_one_that_stops_first_becomes_rolling_when_asked() -> None:
    dd = Dd().gpus_per_replica(1)
    world = Scene([NodeBuilder("n").gpus(1)])
    world.apply(dd, world.decide(dd))
    (current,) = world.current["default/demo"]
    assert current.rollout == RECREATE
    world.current["default/demo"] = (replace(current, settled=False),)
    named = Dd().gpus_per_replica(1).set("rollout.strategy", "rollingUpdate")
    assert world.decide(named).groups[0].rollout == rolling(1)


@pytest.mark.parametrize(("free", "expected"), [(0, RECREATE), (1, SURGE)])
def test_a_new_pod_that_is_stuck_has_the_strategy_chosen_anew(free: int, expected: Rollout) -> None:
    """Where a GPU is free by the ledger, something else keeps the pod away: what serves is not stopped."""
    dd = Dd().gpus_per_replica(1)
    world = Scene([NodeBuilder("n").gpus(2 + free)])
    first = world.decide(dd)
    world.apply(dd, first)
    world.start_pods(dd, first)
    (current,) = world.current["default/demo"]
    assert current.rollout == SURGE
    world.pods.append(PodBuilder("other").gpus(1).on("n"))
    world.current["default/demo"] = (replace(current, settled=False, stuck=True),)
    assert world.decide(dd).groups[0].rollout == expected


def test_growing_pods_make_room_for_each_other() -> None:
    small, large = Dd().gpus_per_replica(1).replicas(4), Dd().gpus_per_replica(2).replicas(4)
    world = Scene([NodeBuilder("n").gpus(8)])
    first = world.decide(small)
    world.apply(small, first)
    world.start_pods(small, first)
    world.pods.append(PodBuilder("other").gpus(3).on("n"))
    (group,) = world.decide(large).groups
    assert (group.replicas, group.rollout) == (2, rolling(2))
