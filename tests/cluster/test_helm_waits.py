"""`helm --wait` on somebody's own chart waits for a deployment's engines, from before anybody has seen it.

The operator is away at first: an object without a status would count as ready at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from cluster.operatorpods import await_leader
from cluster.room import Room, is_true, manifest, pod_is_ready
from localcluster.install import helm
from localcluster.kindcluster import Cluster
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE

NAME = "of-a-chart"
OPERATOR_S = ("-n", OPERATOR_NAMESPACE)
DEPLOYMENT = f"deployment/{HELM_RELEASE}"

pytestmark = pytest.mark.timeout(600)


def chart(folder: Path) -> Path:
    """A chart with one DiffusionDeployment."""
    (folder / "templates").mkdir()
    about = {"apiVersion": "v2", "name": "pictures", "version": "0.1.0"}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(about))
    (folder / "templates" / "pictures.yaml").write_text(yaml.safe_dump(manifest(NAME)))
    return folder


@contextmanager
def operator_away(cluster: Cluster) -> Iterator[None]:
    """No replica of it; all are back, and one leads, when the block has ended."""
    found = json.loads(cluster.kubectl(*OPERATOR_S, "get", DEPLOYMENT, "-o", "json"))
    cluster.kubectl(*OPERATOR_S, "scale", DEPLOYMENT, "--replicas=0")
    try:
        yield
    finally:
        cluster.kubectl(*OPERATOR_S, "scale", DEPLOYMENT, f"--replicas={found['spec']['replicas']}")
        await_leader(cluster)


def test_a_release_is_there_when_its_engines_are(room: Room, tmp_path: Path) -> None:
    words = ("--namespace", room.namespace, "--wait", "--timeout=240s")
    with ThreadPoolExecutor(1) as beside:
        with operator_away(room.cluster):
            release = beside.submit(helm, room.cluster, "install", "pictures", str(chart(tmp_path)), *words)
            dd = room.await_dd(NAME, lambda _: True, "made by the chart")
            assert dd["status"] == {"observedGeneration": -1}
            with pytest.raises(TimeoutError):
                release.result(timeout=10)
        release.result()
    assert is_true(room.get(NAME), "Ready")
    assert all(map(pod_is_ready, room.pods(NAME)))
