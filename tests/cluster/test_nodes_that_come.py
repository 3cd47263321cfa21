"""Pods wait for nodes of a pool that does not exist yet, and run on the nodes that appear for them."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cluster.room import Room, condition, manifest
from localcluster.gpunodes import FAKE_TAINT, GPUProduct, bring_nodes
from localcluster.kindcluster import Cluster
from localcluster.settings import OPERATOR_NAMESPACE

L4 = GPUProduct("NVIDIA-L4", 23034, "ada-lovelace", (8, 9))
LABELS = {"pool": "burst"}
POOL = {
    "name": "burst",
    "product": L4.product,
    "gpusPerNode": 4,
    "maxNodes": 2,
    "nodeSelector": LABELS,
    "tolerations": [{"key": FAKE_TAINT, "operator": "Exists"}],
}


@pytest.fixture
def pool(cluster: Cluster) -> Iterator[None]:
    """The operator knows the pool while the test runs; its nodes are gone afterwards."""
    where = ("-n", OPERATOR_NAMESPACE)
    setting = (*where, "set", "env", "deployment", "--all")
    cluster.kubectl(*setting, f"DIFFUSION_NODE_POOLS={json.dumps([POOL])}")
    (name,) = cluster.kubectl(*where, "get", "deployment", "-o", "name").split()
    cluster.kubectl(*where, "rollout", "status", name, "--timeout=90s")
    yield
    cluster.kubectl(*setting, "DIFFUSION_NODE_POOLS-")  # the next test waits for what it needs
    cluster.kubectl("delete", "node", "-l", "pool=burst", "--wait=false")


@pytest.mark.usefixtures("pool")
def test_a_node_appears_for_pods_that_wait(room: Room) -> None:
    room.apply(
        manifest(
            "burst",
            hardware={"productIn": [L4.product]},
            parallelism={"gpusPerReplica": 4},
            performance={"device": "cpu"},
        )
    )
    dd = room.await_dd(
        "burst",
        lambda dd: condition(dd, "Reconciling").get("reason") == "WaitingForNodes",
        "waits for nodes",
    )
    assert "4 GPUs of pool burst" in condition(dd, "Reconciling")["message"]
    assert dd["status"]["placements"][0]["waitingForNodes"] == 1
    room.await_pods(
        "burst",
        lambda state: any("conditions" in pod.get("status", {}) for pod in state.values()),
        "a pod that the scheduler has looked at",
    )
    (node,) = bring_nodes(room.cluster, room.namespace, LABELS, L4, 4)
    room.await_pods(
        "burst",
        lambda state: [pod["spec"].get("nodeName") for pod in state.values()] == [node],
        f"its pod on {node}",
    )
    dd = room.await_dd(
        "burst",
        lambda dd: condition(dd, "Reconciling").get("reason") not in (None, "WaitingForNodes"),
        "waits no more",
    )
    assert "waitingForNodes" not in dd["status"]["placements"][0]
