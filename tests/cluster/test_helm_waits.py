"""`helm --wait` on somebody's own chart waits for a deployment's engines, from before anybody has seen it.

The operator is away at first: an object without a status would count as ready at once.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from cluster.operatorpods import await_leader
from cluster.room import Room, is_true, manifest, pod_is_ready
from localcluster.install import helm
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE

NAME = "of-a-chart"
OPERATOR = ("-n", OPERATOR_NAMESPACE, "scale", f"deployment/{HELM_RELEASE}")

pytestmark = pytest.mark.timeout(600)


def chart(folder: Path) -> Path:
    """A chart with one DiffusionDeployment."""
    (folder / "templates").mkdir()
    about = {"apiVersion": "v2", "name": "pictures", "version": "0.1.0"}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(about))
    (folder / "templates" / "pictures.yaml").write_text(yaml.safe_dump(manifest(NAME)))
    return folder


def test_a_release_is_there_when_its_engines_are(room: Room, tmp_path: Path) -> None:
    words = (
        "install",
        "pictures",
        str(chart(tmp_path)),
        "--namespace",
        room.namespace,
        "--wait",
        "--timeout=240s",
    )
    cluster = room.cluster
    replicas = json.loads(
        cluster.kubectl("-n", OPERATOR_NAMESPACE, "get", f"deployment/{HELM_RELEASE}", "-o", "json")
    )["spec"]["replicas"]
    cluster.kubectl(*OPERATOR, "--replicas=0")
    try:
        with ThreadPoolExecutor(1) as beside:
            release = beside.submit(helm, cluster, *words)
            dd = room.await_dd(NAME, lambda _: True, "made by the chart")
            assert dd["status"] == {"observedGeneration": -1}
            with pytest.raises(TimeoutError):
                release.result(timeout=10)
            cluster.kubectl(*OPERATOR, f"--replicas={replicas}")
            release.result()
    finally:
        cluster.kubectl(*OPERATOR, f"--replicas={replicas}")
        await_leader(cluster)
    assert is_true(room.get(NAME), "Ready")
    assert all(map(pod_is_ready, room.pods(NAME)))
