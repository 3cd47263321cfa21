"""Deployments that serve while bad ones come and go, and what must not have changed about them afterwards."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from cluster.room import Room, is_true, manifest
from localcluster.gpunodes import FAKE_TAINT, H200, fake_node
from localcluster.kindcluster import Cluster
from localcluster.settings import OPERATOR_NAMESPACE

LABEL = {"bad-resources": "yes"}
# What bad resources are made from: on nodes of their own, where admitted ones start without running anything.
BASE: dict[str, Any] = {
    "model": {"source": {"builtIn": {"name": "demo"}}},
    "performance": {"device": "cpu"},
    "hardware": {"nodeSelector": LABEL, "tolerations": [{"key": FAKE_TAINT, "operator": "Exists"}]},
}
TRACES = ("Traceback (most recent call last)", "bug in the operator")


@dataclass
class Neighbours:
    """Deployments of one namespace that are Ready."""

    room: Room
    names: tuple[str, ...]
    before: dict[str, Any] = field(default_factory=dict)

    def note(self) -> None:
        self.before = self._state()

    def changed(self) -> list[str]:
        """What differs from what was noted; empty when nobody noticed the others."""
        after = self._state()
        return [
            f"{key}: {self.before[key]} became {after.get(key)}"
            for key in self.before
            if after.get(key) != self.before[key]
        ]

    def draw(self) -> None:
        """A picture from each."""
        for name in self.names:
            with self.room.client(name) as client:
                assert client.images.generate(model="demo", prompt="a star", size="128x128").data

    def _state(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name in self.names:
            dd = self.room.get(name)
            found[f"{name} ready"] = is_true(dd, "Ready")
            found[f"{name} conditions"] = [
                (c["type"], c["status"], c["lastTransitionTime"]) for c in dd["status"]["conditions"]
            ]
            found[f"{name} pods"] = [
                (pod["metadata"]["uid"], [c["restartCount"] for c in pod["status"]["containerStatuses"]])
                for pod in self.room.pods(name)
            ]
        return found


def start_neighbours(room: Room, *names: str) -> Neighbours:
    """Apply them and wait until they serve."""
    room.apply(*(manifest(name, parallelism={"gpusPerReplica": 1}) for name in names))
    for name in names:
        room.await_ready(name)
    neighbours = Neighbours(room, names)
    neighbours.note()
    return neighbours


def bring_empty_nodes(cluster: Cluster, count: int) -> None:
    """KWOK nodes for admitted ones."""
    nodes = [fake_node(f"bad-resources-{number}", H200, 8) for number in range(count)]
    for node in nodes:
        node["metadata"]["labels"] |= LABEL
    cluster.apply(*nodes)
    cluster.kubectl("wait", "--for=condition=Ready", "node", "-l", "bad-resources=yes", "--timeout=60s")


def remove_empty_nodes(cluster: Cluster) -> None:
    cluster.kubectl("delete", "node", "-l", "bad-resources=yes", "--wait=false")


def operator_pods(cluster: Cluster) -> dict[str, int]:
    """Restarts of each."""
    listed = json.loads(
        cluster.kubectl(
            "-n",
            OPERATOR_NAMESPACE,
            "get",
            "pods",
            "-l",
            "app.kubernetes.io/component=operator",
            "-o",
            "json",
        )
    )
    if not listed["items"]:
        listed = json.loads(cluster.kubectl("-n", OPERATOR_NAMESPACE, "get", "pods", "-o", "json"))
    return {
        pod["metadata"]["name"]: sum(c["restartCount"] for c in pod["status"].get("containerStatuses", ()))
        for pod in listed["items"]
    }


def traces_in_the_log(cluster: Cluster, since: str) -> list[str]:
    """Lines of any operator pod that speak of an exception nobody expected."""
    found = []
    for name in operator_pods(cluster):
        text = cluster.kubectl("-n", OPERATOR_NAMESPACE, "logs", name, f"--since-time={since}")
        found += [line for line in text.splitlines() if any(trace in line for trace in TRACES)]
    return found
