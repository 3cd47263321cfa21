"""Projections hold what placement needs of nodes, pods and Deployments."""

from __future__ import annotations

import pytest

from diffusion_operator.inventory.hardware import gpu_labels
from diffusion_operator.inventory.objects import parse_deployment, parse_node, parse_pod
from diffusion_operator.inventory.requests import BadObject
from wrappers import NodeBuilder, PodBuilder


def test_node() -> None:
    node = parse_node(NodeBuilder("n").gpus(8).taint("t", value="v").memory("1Gi").build())
    assert (node.name, node.ready, node.unschedulable) == ("n", True, False)
    assert node.extended == {"nvidia.com/gpu": 8}
    assert node.memory_bytes == 2**30
    assert [(t.key, t.value, t.effect) for t in node.taints] == [("t", "v", "NoSchedule")]


def test_bare_node_is_not_ready_and_has_nothing() -> None:
    node = parse_node({"metadata": {"name": "n"}})
    assert (node.ready, node.extended, node.memory_bytes) == (False, {}, 0)


def test_node_with_unreadable_amount() -> None:
    with pytest.raises(BadObject, match=r"node n: status.allocatable.nvidia.com/gpu: 'x' is not a quantity"):
        parse_node(
            NodeBuilder("n").label("a", "b").build() | {"status": {"allocatable": {"nvidia.com/gpu": "x"}}}
        )


def test_engine_pod_names_its_owner() -> None:
    pod = parse_pod(PodBuilder("p", "team").owned_by("studio", "h200", "abc").on("n").terminating().build())
    assert (pod.owner, pod.group, pod.plan_hash) == ("team/studio", "h200", "abc")
    assert (pod.node, pod.phase, pod.terminating) == ("n", "Running", True)


def test_foreign_pod_has_no_owner_and_says_why_it_waits() -> None:
    pod = parse_pod(PodBuilder("p").unschedulable("no GPU").build())
    assert pod.owner is None
    assert pod.unschedulable_message == "no GPU"


def test_deployment_without_our_labels_is_refused() -> None:
    with pytest.raises(BadObject, match=r"deployment default/d: metadata\.labels lacks"):
        parse_deployment({"metadata": {"name": "d", "namespace": "default"}})


@pytest.mark.parametrize(
    ("text", "memory"), [("81920", 81920 * 2**20), ("0", None), ("lots", None), ("-1", None)]
)
def test_memory_label_is_mebibytes(text: str, memory: int | None) -> None:
    node = parse_node(NodeBuilder("n").label("nvidia.com/gpu.memory", text).build())
    assert gpu_labels(node, "nvidia.com/gpu").memory_bytes == memory


def test_time_sliced_gpus_are_shared() -> None:
    node = parse_node(NodeBuilder("n").label("nvidia.com/gpu.replicas", "4").build())
    assert gpu_labels(node, "nvidia.com/gpu").shared
