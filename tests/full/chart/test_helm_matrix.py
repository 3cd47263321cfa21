"""install, test, upgrade, rollback, uninstall, install again: with Helm 4 and 3, beside a serving engine.

The engine's pod is the same one from the first to the last step: what the operator's release goes through
costs no running engine anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.room import Room, manifest
from cluster.watching import await_state
from full.chart.outcome import record
from localcluster.commands import start_cluster_with_images, stop_cluster
from localcluster.images import ProductImages
from localcluster.install import CHART, helm, image_values
from localcluster.kindcluster import Cluster
from localcluster.settings import OPERATOR_NAMESPACE, TEST_CLUSTER

RELEASE = "diffusion-operator"
IN = ("--namespace", OPERATOR_NAMESPACE)
WAIT = ("--wait", "--timeout=180s")
OPERATOR = "deployment/diffusion-operator"

pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[Cluster, ProductImages]]:
    """The test cluster without the product."""
    try:
        yield start_cluster_with_images(TEST_CLUSTER)
    finally:
        stop_cluster(TEST_CLUSTER)


@pytest.mark.parametrize("tool", ["helm", "helm3"])
def test_a_release_s_whole_life(place: tuple[Cluster, ProductImages], tool: str) -> None:
    cluster, images = place
    values = image_values(images)
    seconds: dict[str, float] = {}

    def step(name: str, *words: str) -> str:
        start = time.monotonic()
        said = helm(cluster, *words, *IN, tool=tool)
        seconds[name] = round(time.monotonic() - start, 1)
        return said

    def status() -> Any:
        return json.loads(helm(cluster, "status", RELEASE, *IN, "-o", "json", tool=tool))["info"]["status"]

    step("install", "install", RELEASE, str(CHART), "--create-namespace", *values, *WAIT)
    room = Room(cluster, f"life-{tool}")
    cluster.kubectl("create", "namespace", room.namespace)
    room.apply(manifest("demo"))
    room.await_ready("demo")
    engine = pods_of(room)
    assert "Succeeded" in step("test", "test", RELEASE, "--timeout=120s")

    changed = ["--set", "operator.logFormat=json", "--set", "monitoring.dashboard.enabled=true"]
    step("upgrade", "upgrade", RELEASE, str(CHART), *values, *changed, *WAIT)
    assert log_format(cluster) == "json"
    assert dashboards(cluster) == 1
    step("rollback", "rollback", RELEASE, "1", *WAIT)
    assert log_format(cluster) == "text"
    assert dashboards(cluster) == 0
    assert status() == "deployed"
    assert "Succeeded" in step("test again", "test", RELEASE, "--timeout=120s")

    step("uninstall", "uninstall", RELEASE, *WAIT)
    ours = f"app.kubernetes.io/instance={RELEASE}"
    gone = "the operator's pod is gone"
    await_state(cluster, OPERATOR_NAMESPACE, "pods", lambda state: not state, gone, selector=ours)
    assert cluster.kubectl("get", "all,networkpolicy,configmap", *IN, "-l", ours, "-o", "name") == ""
    policies = cluster.kubectl("get", "validatingadmissionpolicy,clusterrole", "-o", "name")
    assert "/diffusion-operator" not in policies
    room.get("demo")  # the definition and every DiffusionDeployment stay
    assert pods_of(room) == engine

    step("install again", "install", RELEASE, str(CHART), *values, *WAIT)
    room.kubectl("label", "dd", "demo", "seen=again")
    room.await_ready("demo")
    assert pods_of(room) == engine
    room.kubectl("delete", "dd", "demo")
    await_state(cluster, room.namespace, "pods", lambda state: not state, "no pods left")
    helm(cluster, "uninstall", RELEASE, *IN, *WAIT, tool=tool)
    record(
        f"{tool} install, test, upgrade, rollback, uninstall, install",
        {"enginePodsReplaced": 0, "seconds": seconds},
    )


def pods_of(room: Room) -> list[tuple[str, int]]:
    """Uid and restarts of each engine pod."""
    return sorted(
        (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in room.pods("demo")
    )


def log_format(cluster: Cluster) -> str:
    found = json.loads(cluster.kubectl("get", OPERATOR, *IN, "-o", "json"))
    container = found["spec"]["template"]["spec"]["containers"][0]
    return next(str(entry["value"]) for entry in container["env"] if entry["name"] == "DIFFUSION_LOG_FORMAT")


def dashboards(cluster: Cluster) -> int:
    return len(cluster.kubectl("get", "configmap", *IN, "-l", "grafana_dashboard=1", "-o", "name").split())
