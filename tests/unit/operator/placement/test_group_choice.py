"""Which hardware group is chosen, how it is named and pinned."""

from __future__ import annotations

from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder, PodBuilder


def test_the_faster_group_is_filled_first_and_the_next_takes_the_rest() -> None:
    nodes = [NodeBuilder("fast").gpus(1, "NVIDIA-H200"), NodeBuilder("many").gpus(4, "NVIDIA-L40S")]
    decision = Scene(nodes).decide(Dd().gpus_per_replica(1).replicas(3))
    assert [(group.name, group.replicas) for group in decision.groups] == [("h200", 1), ("l40s", 2)]
    assert decision.refusal is None


def test_fewer_gpu_seconds_win() -> None:
    nodes = [NodeBuilder("slow").gpus(4, "NVIDIA-L4"), NodeBuilder("fast").gpus(4, "NVIDIA-H200")]
    (group,) = Scene(nodes).decide(Dd().gpus_per_replica(1)).groups
    assert group.name == "h200"


def test_product_in_takes_labels_and_short_names() -> None:
    nodes = [NodeBuilder("a").gpus(4, "NVIDIA-L40S"), NodeBuilder("b").gpus(4, "NVIDIA-H200")]
    for name in ("NVIDIA-L40S", "l40s", "L40S"):
        (group,) = Scene(nodes).decide(Dd().set("hardware.productIn", [name])).groups
        assert group.product == "NVIDIA-L40S"
        assert group.node_selector == {"nvidia.com/gpu.product": "NVIDIA-L40S"}


def test_memory_label_alone_makes_hardware_known() -> None:
    (group,) = (
        Scene([NodeBuilder("n").gpus(1, None).label("nvidia.com/gpu.memory", "40000")]).decide(Dd()).groups
    )
    assert group.node_selector == {"nvidia.com/gpu.memory": "40000"}
    assert group.without_label == "nvidia.com/gpu.product"


def test_taken_node_does_not_count() -> None:
    nodes = [NodeBuilder("a").gpus(2), NodeBuilder("b").gpus(2)]
    (group,) = (
        Scene(nodes, [PodBuilder("x").gpus(2).on("a")]).decide(Dd().gpus_per_replica(2).replicas(1)).groups
    )
    assert group.replicas == 1


def test_replica_never_spans_nodes() -> None:
    nodes = [NodeBuilder("a").gpus(1), NodeBuilder("b").gpus(1)]
    refusal = Scene(nodes).decide(Dd().gpus_per_replica(2)).refusal
    assert refusal is not None
    assert refusal.stalled


def test_shared_gpus_are_a_group_of_their_own_and_take_one_gpu_only() -> None:
    node = NodeBuilder("n").gpus(4).label("nvidia.com/gpu.replicas", "4")
    (group,) = Scene([node]).decide(Dd()).groups
    assert group.name == "h200-shared"
    assert group.plan.gpus_per_replica == 1


def test_required_node_affinity_is_planned_for() -> None:
    terms = {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["b"]}]}]
    }
    dd = Dd().set("pod.affinity.nodeAffinity", {"requiredDuringSchedulingIgnoredDuringExecution": terms})
    nodes = [NodeBuilder("a").gpus(8).label("zone", "a"), NodeBuilder("b").gpus(1).label("zone", "b")]
    (group,) = Scene(nodes).decide(dd.replicas(1)).groups
    assert group.plan.gpus_per_replica == 1


def test_mig_slices_are_a_group_of_their_own_and_take_one_slice_a_replica() -> None:
    resource = "nvidia.com/mig-3g.40gb"
    node = NodeBuilder("n").gpus(4, "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb", resource)
    node.label(f"{resource}.memory", "40192")
    dd = Dd().set("hardware.resourceName", resource).replicas(2)
    (group,) = Scene([node]).decide(dd).groups
    assert (group.resource_name, group.replicas, group.plan.gpus_per_replica) == (resource, 2, 1)
    assert "mig" in group.name
    refusal = Scene([node]).decide(dd.gpus_per_replica(2)).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.stalled) == ("LayoutUnsupported", True)
    assert "is a MIG slice: use 1" in refusal.message
