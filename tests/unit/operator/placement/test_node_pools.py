"""Nodes that do not exist yet: pods are created for a pool that can grow, for no more than it may bring."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diffusion_operator.inventory.pools import BadPools, parse_pools
from diffusion_operator.placement.groups import Terms
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

LABELS = {"pool": "spot"}


def pools(**fields: Any) -> Terms:
    entry = {
        "name": "spot",
        "product": "NVIDIA-H200",
        "gpusPerNode": 8,
        "maxNodes": 2,
        "nodeSelector": LABELS,
    }
    return Terms(parse_pools(json.dumps([entry | fields])))


def test_without_any_node_pods_are_created_for_the_pool() -> None:
    taint = {"key": "spot", "operator": "Exists", "effect": "NoSchedule"}
    scene = Scene([], terms=pools(tolerations=[taint]))
    dd = Dd().gpus_per_replica(4).replicas(3)
    decision = scene.decide(dd)
    (group,) = decision.groups
    assert (group.name, group.replicas, group.plan.gpu_product) == ("pool-spot", 3, "NVIDIA-H200")
    assert group.node_selector == LABELS
    assert decision.refusal is not None
    assert (decision.refusal.reason, decision.refusal.stalled) == ("WaitingForNodes", False)
    assert decision.refusal.message == (
        "3 of 3 replicas wait: waiting for new nodes: 12 GPUs of pool spot (3 x 4 NVIDIA-H200)."
    )
    scene.apply(dd, decision)
    pod = scene.deployments["default/demo-pool-spot"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == LABELS
    assert {"key": "spot", "operator": "Exists", "effect": "NoSchedule"} in pod["tolerations"]
    assert scene.decide(dd) == decision


def test_what_exists_is_used_first() -> None:
    scene = Scene([NodeBuilder("n").gpus(2)], terms=pools())
    decision = scene.decide(Dd().gpus_per_replica(1).replicas(3))
    assert {group.name: group.replicas for group in decision.groups} == {"h200": 2, "pool-spot": 1}
    assert decision.refusal is not None
    assert decision.refusal.message.startswith(
        "1 of 3 replicas waits: waiting for new nodes: 1 GPU of pool spot"
    )


def test_nodes_that_come_belong_to_the_pool_and_end_the_wait() -> None:
    scene, dd = Scene([], terms=pools()), Dd().gpus_per_replica(8).replicas(2)
    scene.apply(dd, scene.decide(dd))
    # It has joined; GPU feature discovery has not labelled it yet.
    scene.nodes = [NodeBuilder("new").gpus(8, None).label("pool", "spot")]
    decision = scene.decide(dd)
    assert [(group.name, group.replicas) for group in decision.groups] == [("pool-spot", 2)]
    assert decision.refusal is not None
    assert "1 of 2 replicas waits" in decision.refusal.message
    scene.nodes = [NodeBuilder(f"new{i}").gpus(8).label("pool", "spot") for i in range(2)]
    decision = scene.decide(dd)
    assert [(group.name, group.replicas) for group in decision.groups] == [("pool-spot", 2)]
    assert decision.refusal is None


def test_a_pool_brings_no_more_than_it_may() -> None:
    decision = Scene([], terms=pools()).decide(Dd().gpus_per_replica(8).replicas(5))
    assert [group.replicas for group in decision.groups] == [2]
    assert decision.refusal is not None
    assert "3 more fit nowhere" in decision.refusal.message


def test_two_deployments_never_wait_for_the_same_future_node() -> None:
    scene = Scene([], terms=pools(maxNodes=1))
    first, second = (Dd(name).gpus_per_replica(8) for name in ("first", "second"))
    scene.apply(first, scene.decide(first))
    refused = scene.decide(second)
    assert refused.groups == ()
    assert refused.refusal is not None
    assert (refused.refusal.reason, refused.refusal.stalled) == ("InsufficientGPUs", False)


def test_a_pool_without_labels_extends_the_group_of_its_product() -> None:
    dd = Dd().gpus_per_replica(8).replicas(1)
    scene = Scene([NodeBuilder("n").gpus(8)])
    scene.apply(dd, scene.decide(dd))
    scene.terms = pools(nodeSelector={})
    decision = scene.decide(dd.replicas(2))
    assert [(group.name, group.replicas) for group in decision.groups] == [("h200", 2)]
    assert decision.groups[0].node_selector == {"nvidia.com/gpu.product": "NVIDIA-H200"}
    assert decision.refusal is not None
    assert decision.refusal.reason == "WaitingForNodes"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("hardware.productIn", ["l40s"]),
        ("hardware.nodeSelector", {"zone": "a"}),
        ("hardware.minMemory", "200Gi"),
    ],
)
def test_a_pool_that_the_spec_excludes_is_not_asked(path: str, value: Any) -> None:
    decision = Scene([], terms=pools()).decide(Dd().set(path, value))
    assert decision.refusal is not None
    assert (decision.refusal.reason, decision.refusal.stalled) == ("NoGPUNodes", True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no JSON"),
        ("{}", "must be a list"),
        ('[{"name": "a"}]', r"nodePools\[0\].product"),
        ('[{"name":"a","product":"H200","gpusPerNode":0,"maxNodes":1}]', r"nodePools\[0\].gpusPerNode"),
        ('[{"name":"a","product":"ACME","gpusPerNode":1,"maxNodes":1}]', "Set gpuMemoryMiB"),
        ('[{"name":"a","product":"H200","gpusPerNode":1,"maxNodes":1,"zone":1}]', r"nodePools\[0\].zone"),
        (
            json.dumps([{"name": "a", "product": "H200", "gpusPerNode": 1, "maxNodes": 1}] * 2),
            "declared 2 times",
        ),
    ],
)
def test_a_wrong_pool_is_named(text: str, says: str) -> None:
    with pytest.raises(BadPools, match=says):
        parse_pools(text)


def test_an_unknown_product_is_taken_with_its_memory() -> None:
    (pool,) = parse_pools('[{"name":"a","product":"ACME","gpusPerNode":1,"maxNodes":1,"gpuMemoryMiB":24576}]')
    assert pool.device.total_bytes == 24 * 2**30
