"""One deployment on several GPU products: a plan each, the best group first, and what serves stays put."""

from __future__ import annotations

from diffusion_operator.placement.host_memory import gpus_with_memory
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder, PodBuilder

QWEN = "Qwen/Qwen-Image"


def counts(scene: Scene, dd: Dd) -> dict[str, int]:
    return {group.name: group.replicas for group in scene.decide(dd).groups}


def test_each_product_gets_a_plan_of_its_own() -> None:
    nodes = [NodeBuilder("big").gpus(1, "NVIDIA-H200"), NodeBuilder("small").gpus(2, "NVIDIA-L4")]
    dd = Dd().gpus_per_replica(1).replicas(3).set("performance.mode", "auto")
    groups = Scene(nodes).decide(dd).groups
    assert [(group.name, group.replicas, group.product) for group in groups] == [
        ("h200", 1, "NVIDIA-H200"),
        ("l4", 2, "NVIDIA-L4"),
    ]
    assert {group.plan.gpu_product for group in groups} == {"NVIDIA-H200", "NVIDIA-L4"}


def test_more_replicas_go_beside_those_that_serve_and_move_none() -> None:
    scene = Scene([NodeBuilder("slow").gpus(2, "NVIDIA-L4")])
    dd = Dd().gpus_per_replica(1).replicas(2)
    first = scene.decide(dd)
    scene.apply(dd, first)
    scene.start_pods(dd, first)
    scene.nodes = [*scene.nodes, NodeBuilder("fast").gpus(4, "NVIDIA-H200")]
    assert counts(scene, dd) == {"l4": 2}
    dd.replicas(3)
    assert counts(scene, dd) == {"l4": 2, "h200": 1}


def test_fewer_replicas_leave_the_slower_group_first() -> None:
    nodes = [NodeBuilder("slow").gpus(2, "NVIDIA-L4"), NodeBuilder("fast").gpus(2, "NVIDIA-H200")]
    scene, dd = Scene(nodes), Dd().gpus_per_replica(1).replicas(4)
    scene.apply(dd, scene.decide(dd))
    assert counts(scene, dd.replicas(3)) == {"h200": 2, "l4": 1}
    assert counts(scene, dd.replicas(1)) == {"h200": 1}


def test_what_fits_nowhere_waits_with_the_groups_that_run() -> None:
    nodes = [NodeBuilder("a").gpus(1, "NVIDIA-H200"), NodeBuilder("b").gpus(1, "NVIDIA-L40S")]
    decision = Scene(nodes).decide(Dd().gpus_per_replica(1).replicas(3))
    assert sum(group.replicas for group in decision.groups) == 2
    assert decision.refusal is not None
    assert (decision.refusal.reason, decision.refusal.stalled) == ("InsufficientGPUs", False)
    assert decision.refusal.message.startswith("1 of 3 replicas waits: needs 1 GPU of one node")


def test_products_of_one_short_name_are_two_groups_with_steady_names() -> None:
    sxm, pcie = "NVIDIA-A100-SXM4-80GB", "NVIDIA-A100-80GB-PCIe"
    one = NodeBuilder("one").gpus(1, sxm)
    two = NodeBuilder("two").gpus(1, pcie).label("nvidia.com/gpu.memory", "81920")
    dd = Dd().gpus_per_replica(1).replicas(2)
    groups = Scene([one, two]).decide(dd).groups
    names = {group.product: group.name for group in groups}
    assert len(set(names.values())) == 2
    assert "a100-80" in names.values()
    # Who has the short name keeps it when the other product comes.
    for first, second in ((one, two), (two, one)):
        scene = Scene([first])
        scene.apply(dd, scene.decide(dd))
        (held,) = scene.current["default/demo"]
        assert held.name == "a100-80"
        scene.nodes = [first, second]
        named = {group.product: group.name for group in scene.decide(dd).groups}
        assert named[held.plan.gpu_product or ""] == "a100-80"
        assert len(set(named.values())) == 2


def test_pods_that_offload_share_the_host_memory_of_a_node() -> None:
    """Four GPUs, but host memory for two replicas whose weights live there."""
    dd = Dd().hugging_face(QWEN).gpus_per_replica(1).set("suspend", True)
    roomy = NodeBuilder("n").gpus(4, "NVIDIA-L40S").memory("2000Gi")
    (group,) = Scene([roomy]).decide(dd).groups
    need = group.plan.memory.host_bytes
    assert any(residency.mode != "resident" for residency in group.plan.residency.values())
    found = Scene([NodeBuilder("n").gpus(4, "NVIDIA-L40S").memory(str(need * 2 + 1000))]).decide(dd)
    assert found.groups
    assert gpus_with_memory(group.plan, 4, need * 2 + 1000) == 2
    assert gpus_with_memory(group.plan, 4, None) == 4


def test_a_full_node_of_the_best_group_sends_new_replicas_to_the_next() -> None:
    nodes = [NodeBuilder("fast").gpus(2, "NVIDIA-H200"), NodeBuilder("next").gpus(2, "NVIDIA-L40S")]
    taken = [PodBuilder("other").gpus(2).on("fast")]
    assert counts(Scene(nodes, taken), Dd().gpus_per_replica(1)) == {"l40s": 1}
