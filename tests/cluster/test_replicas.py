"""Replicas belong to whoever set them last: kubectl scale or an autoscaler, and re-applying without them
undoes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from cluster.room import Room, manifest
from cluster.steady import drawing
from cluster.watching import Object
from localcluster.install import helm


def _replicas(room: Room, name: str) -> int:
    return int(room.get(name)["spec"]["replicas"])


def _suspended(name: str) -> Object:
    """Planned, without pods: most tests here are about who owns a number, which needs no engine."""
    return manifest(name, suspend=True)


@pytest.mark.ahead(manifest("scaled"))
def test_scale_starts_pods_and_stops_them(room: Room) -> None:
    room.await_ready("scaled")
    room.kubectl("scale", "dd", "scaled", "--replicas=2")
    room.await_dd("scaled", lambda dd: dd["status"].get("readyReplicas") == 2, "has 2 ready replicas")
    assert len(room.pods("scaled")) == 2
    with drawing(room, "scaled") as answers:
        room.kubectl("scale", "dd", "scaled", "--replicas=1")
        room.await_pods("scaled", lambda state: len(state) == 1, "one pod")
    assert answers.others("retryable") == {}, answers
    assert answers.kinds["200"] > 0


@pytest.mark.parametrize("server_side", [False, True], ids=["kubectl-apply", "server-side-apply"])
def test_applying_again_does_not_undo_scale(room: Room, server_side: bool) -> None:
    document = _suspended("scaled")
    room.apply(document, server_side=server_side)
    assert _replicas(room, "scaled") == 1
    room.kubectl("scale", "dd", "scaled", "--replicas=3")
    document["metadata"]["labels"] = {"again": "yes"}
    room.apply(document, server_side=server_side)
    assert room.get("scaled")["metadata"]["labels"] == {"again": "yes"}
    assert _replicas(room, "scaled") == 3


def test_helm_upgrade_does_not_undo_scale(room: Room, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text(
        yaml.safe_dump({"apiVersion": "v2", "name": "tiny", "version": "0.1.0"})
    )
    document = _suspended("scaled")
    for again in ("no", "yes"):
        document["metadata"]["labels"] = {"again": again}
        (tmp_path / "templates" / "dd.yaml").write_text(json.dumps(document))
        helm(room.cluster, "upgrade", "--install", "tiny", str(tmp_path), "--namespace", room.namespace)
        if again == "no":
            room.kubectl("scale", "dd", "scaled", "--replicas=3")
    assert room.get("scaled")["metadata"]["labels"]["again"] == "yes"
    assert _replicas(room, "scaled") == 3


def test_autoscaler_raises_to_its_minimum_and_stays(room: Room) -> None:
    room.apply(_suspended("scaled"))
    reference = {
        "apiVersion": "diffusion-operator.io/v1alpha1",
        "kind": "DiffusionDeployment",
        "name": "scaled",
    }
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "scaled"},
        "spec": {"scaleTargetRef": reference, "minReplicas": 2, "maxReplicas": 4},
    }
    room.apply(autoscaler)
    room.await_dd("scaled", lambda dd: dd["spec"]["replicas"] == 2, "is raised to 2 by the autoscaler")
    room.apply(_suspended("scaled"))
    assert _replicas(room, "scaled") == 2
