"""The HPA example of the docs: the real autoscaler reads its metric and writes the scale subresource."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from cluster.room import Room
from localcluster.install import helm
from localcluster.settings import OPERATOR_NAMESPACE, REPOSITORY

STUB = Path(__file__).parent / "metrics_stub"
EXAMPLE = REPOSITORY / "docs" / "examples" / "autoscaled-by-queue.yaml"
WAITING_SECONDS = 85  # over 30 a replica: 3 replicas


@pytest.fixture
def metrics(room: Room) -> Iterator[Room]:
    """The external metrics API, served by a pod of the operator's image."""
    words = [
        "-n",
        OPERATOR_NAMESPACE,
        "get",
        "deployment",
        "-o",
        "jsonpath={.items[0].spec.template.spec.containers[0].image}",
    ]
    values = ["--set", f"image={room.cluster.kubectl(*words)}", "--set-string", f"value={WAITING_SECONDS}"]
    helm(room.cluster, "install", "metrics-stub", str(STUB), "--namespace", room.namespace, *values, "--wait")
    room.kubectl(
        "wait", "--for=condition=Available", "apiservice/v1beta1.external.metrics.k8s.io", "--timeout=60s"
    )
    yield room
    helm(room.cluster, "uninstall", "metrics-stub", "--namespace", room.namespace)


def test_the_example_scales(metrics: Room) -> None:
    dd, autoscaler = yaml.safe_load_all(EXAMPLE.read_text())
    dd["spec"]["suspend"] = True  # who writes the number is the question, not what three engines draw
    metrics.apply(dd, autoscaler)
    name = dd["metadata"]["name"]
    try:
        metrics.await_dd(name, lambda dd: dd["spec"]["replicas"] == 3, "is raised to 3 by the autoscaler")
    except AssertionError as error:
        raise AssertionError(f"{error}\n{metrics.kubectl('describe', 'hpa', name)}") from error
    said = metrics.kubectl("get", "hpa", name, "-o", "jsonpath={.status.conditions}")
    assert "ValidMetricFound" in said
