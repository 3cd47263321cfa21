"""With node agents a busy GPU plans like a small one, and what serves is left alone."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from diffusion_operator.placement.decision import Decision
from diffusion_runtime.planning.documents import Plan
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import GpuNodeBuilder, NodeBuilder, PodBuilder, agent_pod

A100 = "NVIDIA-A100-SXM4-80GB"
L40S = "NVIDIA-L40S"
GIB = 2**30


def qwen(replicas: int = 1) -> Dd:
    return Dd("q").hugging_face("Qwen/Qwen-Image").set("suspend", True).replicas(replicas)


def demo(name: str = "d", replicas: int = 1) -> Dd:
    return Dd(name).replicas(replicas).gpus_per_replica(1)


def plan_of(decision: Decision) -> Plan:
    assert decision.refusal is None, decision.refusal
    (group,) = decision.groups
    return group.plan


def scene(*reports: GpuNodeBuilder, gpus: int = 1, product: str = A100) -> Scene:
    """One node for each report, with that many GPUs, and its agent."""
    names = [report.build()["metadata"]["name"] for report in reports]
    nodes = [NodeBuilder(name).gpus(gpus, product) for name in names]
    return Scene(nodes, [agent_pod(name) for name in names], reports=reports)


def test_a_busy_80_gib_gpu_plans_like_a_small_one() -> None:
    dd = qwen()
    idle = plan_of(scene(GpuNodeBuilder("n").gpu(80, 0)).decide(dd))
    busy = plan_of(scene(GpuNodeBuilder("n").gpu(80, 35)).decide(dd))
    small = plan_of(Scene([NodeBuilder("n").gpus(1, L40S)]).decide(dd))
    assert busy.residency == small.residency != idle.residency
    assert busy.memory.peak_per_gpu_bytes < 45 * GIB < idle.memory.peak_per_gpu_bytes
    assert busy.memory.free_per_gpu_bytes == 45 * GIB


def test_without_agents_labels_decide() -> None:
    with_labels = plan_of(Scene([NodeBuilder("n").gpus(1, A100)]).decide(qwen()))
    silent = Scene([NodeBuilder("n").gpus(1, A100)], reports=[GpuNodeBuilder("n").gpu(80, 79)])
    assert plan_of(silent.decide(qwen())) == with_labels


def test_small_moves_change_nothing() -> None:
    plans = [plan_of(scene(GpuNodeBuilder("n").gpu(80, move)).decide(qwen())) for move in (20.1, 20.2, 20.4)]
    assert plans[0] == plans[1] == plans[2]


def test_free_bytes_are_no_part_of_the_hash() -> None:
    one = plan_of(scene(GpuNodeBuilder("n").gpu(80, 1)).decide(qwen()))
    two = plan_of(scene(GpuNodeBuilder("n").gpu(80, 3)).decide(qwen()))
    assert one.memory.free_per_gpu_bytes != two.memory.free_per_gpu_bytes
    assert one.hash == two.hash


def test_a_serving_plan_is_not_judged_by_the_memory_of_its_own_pods() -> None:
    dd = demo()
    world = scene(GpuNodeBuilder("n").gpu(80, 0))
    first = world.decide(dd)
    world.apply(dd, first)
    world.start_pods(dd, first)
    holder = world.pods[-1].build()["metadata"]["name"]
    world.reports = [GpuNodeBuilder("n").gpu(80, 0, f"default/{holder}", usedBytes=79 * GIB)]
    assert world.decide(dd) == first


def test_a_neighbour_that_fills_up_does_not_roll_what_serves() -> None:
    dd = demo()
    world = scene(GpuNodeBuilder("n").gpu(80).gpu(80), gpus=2)
    first = world.decide(dd)
    world.apply(dd, first)
    world.start_pods(dd, first)
    holder = world.pods[-1].build()["metadata"]["name"]
    world.reports = [GpuNodeBuilder("n").gpu(80, 0, f"default/{holder}").gpu(80, 79.9)]
    second = world.decide(dd)
    assert second.refusal is None
    assert second.groups[0].plan == first.groups[0].plan
    more = world.decide(demo(replicas=2))
    assert (more.groups[0].plan, more.groups[0].replicas) == (first.groups[0].plan, 1)
    assert more.refusal is not None
    assert not more.refusal.stalled
    assert "at least one of them has only 0B of memory free" in more.refusal.message
    assert second.groups[0].rollout.kind == "Recreate"


def test_replicas_go_to_nodes_with_room_when_a_busy_one_has_no_plan_at_all() -> None:
    world = scene(GpuNodeBuilder("a").gpu(80, 0), GpuNodeBuilder("b").gpu(80, 79.9))
    found = world.decide(demo(replicas=2))
    assert [group.replicas for group in found.groups] == [1]
    assert found.refusal is not None
    assert found.refusal.reason == "InsufficientGPUs"


def test_only_foreign_memory_in_the_way_means_waiting() -> None:
    found = scene(GpuNodeBuilder("n").gpu(80, 79.9)).decide(demo())
    assert not found.groups
    assert found.refusal is not None
    assert (found.refusal.reason, found.refusal.stalled) == ("InsufficientMemory", False)
    assert "at least one of them has only 0B of memory free" in found.refusal.message


def test_a_pod_on_a_busy_gpu_is_not_taken_away() -> None:
    """It runs by a fallback there; taking it away would only serve less."""
    dd = demo(replicas=2)
    world = scene(GpuNodeBuilder("a").gpu(80).gpu(80), GpuNodeBuilder("b").gpu(80, 79.9), gpus=2)
    world.nodes = [NodeBuilder("a").gpus(2, A100), NodeBuilder("b").gpus(1, A100)]
    first = world.decide(dd)
    assert (first.groups[0].replicas, first.refusal) == (2, None)
    world.apply(dd, first)
    plan = first.groups[0].plan
    for node in ("a", "b"):
        world.pods.append(PodBuilder(f"own-{node}").gpus(1).on(node).owned_by("d", "a100-80", plan.hash))
    world.pods.append(PodBuilder("other").gpus(1).on("a"))
    world.reports = [
        GpuNodeBuilder("a").gpu(80, 0, "default/own-a").gpu(80, 0, "default/other"),
        GpuNodeBuilder("b").gpu(80, 79.9, "default/own-b"),
    ]
    again = world.decide(dd)
    assert (again.groups[0].plan, again.groups[0].replicas, again.refusal) == (plan, 2, None)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(0, 80), min_size=1, max_size=4), st.integers(1, 4), st.randoms(use_true_random=False)
)
def test_decisions_are_made_again_whatever_is_taken_where(
    foreign_gib: list[int], replicas: int, chance: random.Random
) -> None:
    dd = demo(replicas=replicas)
    report = GpuNodeBuilder("n")
    for gib in foreign_gib:
        report.gpu(80, gib)
    world = scene(report, gpus=len(foreign_gib))
    first = world.decide(dd)
    world.apply(dd, first)
    assert world.decide(dd) == first
    world.start_pods(dd, first)
    pods = [pod.build()["metadata"] for pod in world.pods if "labels" in pod.build()["metadata"]]
    own = [meta["name"] for meta in pods if meta["namespace"] == "default"]
    held = dict(zip(chance.sample(range(len(foreign_gib)), len(own)), own, strict=True))
    report = GpuNodeBuilder("n")
    for index, gib in enumerate(foreign_gib):
        report.gpu(80, gib, *([f"default/{held[index]}"] if index in held else []))
    world.reports = [report]
    assert world.decide(dd).groups == first.groups


def test_a_surge_pod_needs_a_gpu_with_room() -> None:
    dd = demo()
    world = scene(GpuNodeBuilder("n").gpu(80).gpu(80), gpus=2)
    assert world.decide(dd).groups[0].rollout.max_surge == 1
    world.pods.append(PodBuilder("own").gpus(1).on("n").owned_by("d", "a100-80", "old"))
    roomy = GpuNodeBuilder("n").gpu(80, 0, "default/own").gpu(80, 70)
    assert Scene(world.nodes, world.pods, reports=[roomy]).decide(dd).groups[0].rollout.max_surge == 1
    busy = GpuNodeBuilder("n").gpu(80, 0, "default/own").gpu(80, 79.9)
    # Whichever of the two a new pod got, so nothing is replaced until there is room on both.
    refusal = Scene(world.nodes, world.pods, reports=[busy]).decide(dd).refusal
    assert refusal is not None
    assert refusal.reason == "InsufficientMemory"


def test_measured_host_memory_decides_about_offload() -> None:
    busy = GpuNodeBuilder("n").gpu(80, 60)
    roomy = plan_of(scene(busy.host_free(200)).decide(qwen()))
    assert roomy.memory.host_bytes > 3 * GIB
    assert roomy.memory.free_per_gpu_bytes == 20 * GIB
    # Offload does not fit any more, so a suspended deployment shows what an empty node would run.
    tight = plan_of(scene(busy.host_free(3)).decide(qwen()))
    assert tight.memory.free_per_gpu_bytes > 79 * GIB
