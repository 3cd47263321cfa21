"""The HPA example of the docs: the real autoscaler reads its metric and writes the scale subresource.

No pod is needed for that, so an API server with this one controller does; the operator's part is the status.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.controlplane import ControlPlane, control_plane, free_port, program
from cluster.definitions import OURS, install
from localcluster.settings import REPOSITORY

EXAMPLE = REPOSITORY / "docs" / "examples" / "autoscaled-by-queue.yaml"
STUB = Path(__file__).parent / "metrics_stub.py"
WAITING_SECONDS = 85  # over 30 a replica: 3 replicas
STATUS = {"replicas": 1, "selector": "diffusion-operator.io/deployment=by-queue", "observedGeneration": 1}


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[ControlPlane]:
    """With the external metrics API, which says that this many seconds of work wait."""
    port = free_port()
    keys = [str(tmp_path / f"{name}.pem") for name in ("certificate", "key")]
    stub: list[str | Path] = [sys.executable, STUB, str(WAITING_SECONDS), str(port), *keys]
    with (
        control_plane(tmp_path, "horizontal-pod-autoscaler-controller") as running,
        program(stub, tmp_path),
    ):
        running.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(metrics_api(port)))
        name = "apiservice/v1beta1.external.metrics.k8s.io"
        running.kubectl("wait", "--for=condition=Available", name, "--timeout=60s")
        yield running


def metrics_api(port: int) -> list[dict[str, Any]]:
    """How the API server finds the stub: a Service that is just a name."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "metrics", "namespace": "default"},
        "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]},
    }
    spec = {
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,
        "service": {"name": "metrics", "namespace": "default", "port": port},
    }
    name = {"name": "v1beta1.external.metrics.k8s.io"}
    return [
        service,
        {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": name, "spec": spec},
    ]


def test_the_example_scales(plane: ControlPlane) -> None:
    install(plane.kubectl, OURS)
    plane.kubectl("apply", "-f", str(EXAMPLE))
    plane.kubectl(
        "patch",
        "dd",
        "by-queue",
        "--subresource=status",
        "--type=merge",
        "-p",
        json.dumps({"status": STATUS}),
    )
    plane.kubectl("wait", "--for=jsonpath={.spec.replicas}=3", "dd/by-queue", "--timeout=90s")
    said = plane.kubectl("get", "hpa", "by-queue", "-o", "jsonpath={.status.conditions}")
    assert "ValidMetricFound" in said
    plane.kubectl("apply", "-f", str(EXAMPLE))  # as GitOps would: the number stays
    assert plane.kubectl("get", "dd", "by-queue", "-o", "jsonpath={.spec.replicas}") == "3"
