"""Objects for the Prometheus operator and for KEDA, against those projects' own resource definitions.

Their controllers do not run here: the API server checks every field against the definitions in their Go
modules.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.definitions import install
from cluster.room import Room, manifest
from cluster.watching import await_state
from localcluster.gotools import module_folder
from localcluster.install import CHART, helm
from localcluster.kindcluster import Cluster
from localcluster.settings import KEDA_VERSION, PROMETHEUS_OPERATOR_VERSION, REPOSITORY

MONITORING = ("servicemonitors", "podmonitors", "prometheusrules")
ON = "monitoring.{}.enabled=true"


@pytest.fixture(scope="module")
def definitions(cluster: Cluster) -> Iterator[None]:
    """The definitions, for as long as these tests run."""
    operator = module_folder(
        "github.com/prometheus-operator/prometheus-operator", PROMETHEUS_OPERATOR_VERSION
    )
    keda = module_folder("github.com/kedacore/keda/v2", KEDA_VERSION)
    folder = operator / "example" / "prometheus-operator-crd"
    files = [folder / f"monitoring.coreos.com_{plural}.yaml" for plural in MONITORING]
    files.append(keda / "config" / "crd" / "bases" / "keda.sh_scaledobjects.yaml")
    install(cluster.kubectl, *files)
    yield
    cluster.kubectl("delete", *(word for file in files for word in ("-f", str(file))), "--wait=false")


def test_a_spec_that_asks_for_it_gets_a_service_monitor(definitions: None, room: Room) -> None:
    asked = {"serviceMonitor": True, "labels": {"release": "prometheus"}}
    room.apply(manifest("watched", suspend=True, monitoring=asked))
    found = await_state(
        room.cluster, room.namespace, "servicemonitors", lambda state: "watched" in state, "a ServiceMonitor"
    )["watched"]
    assert found["metadata"]["labels"]["release"] == "prometheus"
    room.kubectl("patch", "dd", "watched", "--type=merge", "-p", '{"spec": {"monitoring": null}}')
    await_state(room.cluster, room.namespace, "servicemonitors", lambda state: not state, "no ServiceMonitor")


def test_the_chart_s_monitoring_is_valid(definitions: None, room: Room, tmp_path: Path) -> None:
    kinds = ("serviceMonitor", "podMonitor", "rules", "dashboard")
    settings = [
        *(ON.format(kind) for kind in kinds),
        "operator.image.repository=a",
        "engine.image.repository=b",
    ]
    flags = [word for setting in settings for word in ("--set", setting)]
    rendered = helm(
        room.cluster, "template", "other", str(CHART), *flags, "--show-only", "templates/monitoring.yaml"
    )
    said = room.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", "-n", "default", stdin=rendered
    )
    assert said.count("created (server dry run)") == 4


def test_the_keda_example_is_valid(definitions: None, room: Room) -> None:
    file = REPOSITORY / "docs" / "examples" / "autoscaled-by-keda.yaml"
    said = room.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(file))
    assert "scaledobject.keda.sh/by-keda created (server dry run)" in said
