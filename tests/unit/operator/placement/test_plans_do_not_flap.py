"""While what serves still fits, changes of capacity never change its plan, its group or its replicas."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder, PodBuilder

PRODUCTS = ("NVIDIA-H200", "NVIDIA-L40S", "NVIDIA-L4")
node = st.tuples(st.integers(1, 8), st.sampled_from(PRODUCTS))
change = st.tuples(st.integers(0, 3), st.integers(0, 8))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(node, min_size=1, max_size=3),
    st.integers(1, 4),
    st.lists(change, min_size=1, max_size=6),
    st.lists(node, max_size=2),
)
def test_a_serving_plan_survives_every_change_that_leaves_its_gpus(
    cluster: list[tuple[int, str]],
    replicas: int,
    changes: list[tuple[int, int]],
    added: list[tuple[int, str]],
) -> None:
    scene = Scene([NodeBuilder(f"n{i}").gpus(*spec) for i, spec in enumerate(cluster)])
    dd = Dd().replicas(replicas)
    first = scene.decide(dd)
    scene.apply(dd, first)
    scene.start_pods(dd, first)
    own = list(scene.pods)
    nodes = list(scene.nodes)
    held = {f"n{i}": 0 for i in range(len(cluster))}
    for pod in own:
        raw = pod.build()
        engine = raw["spec"]["containers"][0]["resources"]["requests"]
        held[raw["spec"]["nodeName"]] += int(engine["nvidia.com/gpu"])
    running = {group.name: group.plan.hash for group in first.groups}
    for step, (index, amount) in enumerate(changes):
        index %= len(cluster)
        # Other pods come and go beside ours; nodes come; labels and drivers move.
        taken = min(amount, cluster[index][0] - held[f"n{index}"])
        scene.pods = [*own, *([PodBuilder(f"other{step}").gpus(taken).on(f"n{index}")] if taken else [])]
        scene.nodes = [
            *nodes,
            *(NodeBuilder(f"m{i}").gpus(*spec) for i, spec in enumerate(added[: step % 3])),
        ]
        decision = scene.decide(dd)
        for name, digest in running.items():
            (same,) = [group for group in decision.groups if group.name == name]
            assert same.plan.hash == digest
        before = {group.name: group.replicas for group in first.groups}
        after = {group.name: group.replicas for group in decision.groups}
        assert all(after[name] >= count for name, count in before.items())
        assert sum(after.values()) <= replicas


@settings(max_examples=25, deadline=None)
@given(st.lists(node, min_size=1, max_size=3), st.integers(1, 4), st.lists(st.integers(0, 5), max_size=6))
def test_scaling_never_replans(cluster: list[tuple[int, str]], replicas: int, wishes: list[int]) -> None:
    """An autoscaler goes up and down: groups keep their plans, and the same number gives the same answer."""
    scene = Scene([NodeBuilder(f"n{i}").gpus(*spec) for i, spec in enumerate(cluster)])
    dd = Dd().gpus_per_replica(1).replicas(replicas)
    first = scene.decide(dd)
    scene.apply(dd, first)
    plans = {group.name: group.plan.hash for group in first.groups}
    for wish in wishes:
        decision = scene.decide(dd.replicas(wish))
        assert decision == scene.decide(dd)
        for group in decision.groups:
            assert plans.setdefault(group.name, group.plan.hash) == group.plan.hash
        scene.apply(dd, decision)
