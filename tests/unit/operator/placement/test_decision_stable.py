"""A decision that was applied is made again.

before pods exist, while they run, and when better hardware appears.
"""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder, PodBuilder

PRODUCTS = ("NVIDIA-H200", "NVIDIA-L40S", "NVIDIA-L4")
clusters = st.lists(
    st.tuples(st.integers(1, 8), st.sampled_from(PRODUCTS), st.integers(0, 3)), min_size=1, max_size=4
)


def scene(cluster: list[tuple[int, str, int]]) -> Scene:
    nodes = [NodeBuilder(f"n{i}").gpus(gpus, product) for i, (gpus, product, _) in enumerate(cluster)]
    taken = [
        PodBuilder(f"other-{i}").gpus(min(used, cluster[i][0])).on(f"n{i}")
        for i, (*_, used) in enumerate(cluster)
    ]
    return Scene(nodes, taken)


@settings(max_examples=30, deadline=None)
@given(clusters, st.integers(0, 4), st.sampled_from((None, 1, 2)))
def test_applied_decision_is_made_again(
    cluster: list[tuple[int, str, int]], replicas: int, gpus: int | None
) -> None:
    world, dd = scene(cluster), Dd().replicas(replicas)
    if gpus:
        dd.gpus_per_replica(gpus)
    first = world.decide(dd)
    assert first == world.decide(dd)
    world.apply(dd, first)
    assert world.decide(dd) == first
    world.start_pods(dd, first)
    assert world.decide(dd) == first


@settings(max_examples=15, deadline=None)
@given(clusters, st.lists(st.integers(0, 3), min_size=2, max_size=3))
def test_deployments_never_promise_one_gpu_twice(
    cluster: list[tuple[int, str, int]], wanted: list[int]
) -> None:
    world = scene(cluster)
    for index, replicas in enumerate(wanted):
        dd = Dd(f"dd{index}").replicas(replicas)
        world.apply(dd, world.decide(dd))
    ledger = world.ledger()
    for name, claims in ledger.claims.items():
        total = next(node for node in ledger.nodes if node.name == name).extended["nvidia.com/gpu"]
        assert sum(claim.gpus for claim in claims) <= total
    promised = sum(raw["spec"]["replicas"] for raw in world.deployments.values())
    assert promised == sum(claim.reserved for claims in ledger.claims.values() for claim in claims)


def test_serving_plan_is_not_rolled_for_a_better_one() -> None:
    dd = Dd().replicas(1)
    world = Scene([NodeBuilder("n").gpus(1, "NVIDIA-L4")])
    first = world.decide(dd)
    world.apply(dd, first)
    world.start_pods(dd, first)
    better = Scene([*world.nodes, NodeBuilder("new").gpus(8)], world.pods, world.deployments, world.current)
    (group,) = better.decide(dd).groups
    assert (group.name, group.plan) == ("l4", first.groups[0].plan)


def test_changed_wish_makes_a_new_plan() -> None:
    world = Scene([NodeBuilder("n").gpus(8)])
    first = world.decide(Dd().gpus_per_replica(1))
    world.apply(Dd().gpus_per_replica(1), first)
    second = world.decide(Dd().gpus_per_replica(2))
    assert second.groups[0].plan.gpus_per_replica == 2
    assert second.groups[0].intent != first.groups[0].intent


def test_scaling_service_and_labels_change_no_intent() -> None:
    world = Scene([NodeBuilder("n").gpus(8)])
    base = world.decide(Dd()).groups[0].intent
    for dd in (Dd().replicas(2), Dd().set("service.port", 8080), Dd().set("pod.labels", {"a": "b"})):
        assert world.decide(dd).groups[0].intent == base


def test_lost_node_makes_a_plan_elsewhere() -> None:
    dd = Dd().gpus_per_replica(1)
    world = Scene([NodeBuilder("n").gpus(4)])
    world.apply(dd, world.decide(dd))
    moved = Scene([NodeBuilder("m").gpus(1, "NVIDIA-L40S")], [], world.deployments, world.current)
    assert [group.name for group in moved.decide(dd).groups] == ["l40s"]


def test_last_gpus_go_to_one_of_two() -> None:
    world = Scene([NodeBuilder("n").gpus(2)])
    first, second = Dd("first").gpus_per_replica(2), Dd("second").gpus_per_replica(2)
    world.apply(first, world.decide(first))
    refusal = world.decide(second).refusal
    assert refusal is not None
    assert not refusal.stalled
    assert "default/first holds 2" in refusal.message
    more = Scene([NodeBuilder("n").gpus(4)], world.pods, world.deployments, world.current)
    assert more.decide(second).refusal is None
