"""An upgrade of the chart and the way back, beside a fleet of deployments whose pods are KWOK's.

The other version is this tree's chart with another version, operator image tag, setting and a definition with
one more field: what is tested is what the change of the operator costs those who are served.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.operatorpods import await_leader, metric
from cluster.outages import in_node
from cluster.room import Room
from cluster.watching import Object, await_state, until
from localcluster.gpunodes import FAKE_TAINT, H200, fake_node
from localcluster.install import CHART, helm
from localcluster.kindcluster import Cluster
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE

GPUS = 8
POOL = {"pool": "fleet"}
IN = ("--namespace", OPERATOR_NAMESPACE)
WAIT = ("--wait", "--timeout=180s")
BEFORE_FIELD = "              suspend:\n"
NEW_FIELD = """\
              fieldOfTheOtherVersion:
                description: Nothing reads it.
                type: string
"""
RECONCILED = r"diffusion_operator_reconciles_total\{result=\"done\"\}"
# Every part of a spec that a fleet of fake nodes can follow.
SPEC: dict[str, Any] = {
    "model": {"source": {"builtIn": {"name": "demo"}}},
    "performance": {"device": "cpu", "mode": "auto", "memoryReserve": "10%", "allowDowngrade": True},
    "parallelism": {"gpusPerReplica": 1},
    "workload": {"guidance": "on", "shapes": [{"width": 64, "height": 64, "steps": 4}], "concurrency": 2},
    "hardware": {
        "nodeSelector": POOL,
        "productIn": [H200.product],
        "tolerations": [{"key": FAKE_TAINT, "operator": "Exists"}],
    },
    "pod": {"labels": {"team": "pictures"}, "annotations": {"note": "kept"}},
}


@dataclass(frozen=True)
class OtherVersion:
    """Its chart, and the tag of its operator image."""

    chart: Path
    tag: str


@dataclass(frozen=True)
class Fleet:
    """As many deployments of one GPU as the nodes have GPUs."""

    room: Room
    nodes: int

    @property
    def size(self) -> int:
        return self.nodes * GPUS

    @contextmanager
    def live(self) -> Iterator[Fleet]:
        """All of them run; afterwards their nodes are gone."""
        cluster, room = self.room.cluster, self.room
        try:
            nodes = [fake_node(f"fleet-{number:02}", H200, GPUS) for number in range(self.nodes)]
            for node in nodes:
                node["metadata"]["labels"] |= POOL
            cluster.apply(*nodes)
            cluster.kubectl("wait", "--for=condition=Ready", "nodes", "-l", "pool=fleet", "--timeout=90s")
            room.apply(*(self._wish(number) for number in range(self.size)))
            await_state(
                cluster,
                room.namespace,
                "pods",
                lambda state: len(state) == self.size and all(map(_runs, state.values())),
                f"{self.size} pods that run",
                deadline_seconds=240,
            )
            self._look_again()
            yield self
        finally:
            room.kubectl("delete", "dd", "--all", "--wait=false")
            await_state(cluster, room.namespace, "pods", lambda state: not state, "no pod left")
            cluster.kubectl("delete", "nodes", "-l", "pool=fleet", "--wait=false")

    def _look_again(self) -> None:
        """Have each looked at once more: how pods are replaced follows from the GPUs that are left.

        Who came first was decided while there were some; now none is, so the old pod goes before the new.
        """
        self.room.kubectl("annotate", "dd", "--all", "looked-at=again")
        await_state(
            self.room.cluster,
            self.room.namespace,
            "deployments.apps",
            lambda state: all(one["spec"]["strategy"]["type"] == "Recreate" for one in state.values()),
            "Deployments that know that no GPU is left",
        )

    def _wish(self, number: int) -> Object:
        return {
            "apiVersion": "diffusion-operator.io/v1alpha1",
            "kind": "DiffusionDeployment",
            "metadata": {"name": f"dd-{number:03}", "annotations": {"of": "the fleet"}},
            "spec": SPEC,
        }

    def seen(self) -> dict[str, Any]:
        """What an upgrade must not touch: specs, pods, restarts, generations of Deployments."""
        items = json.loads(self.room.kubectl("get", "dd,deploy,pods", "-o", "json"))["items"]
        found: dict[str, Any] = {}
        for item in items:
            kind, metadata = item["kind"], item["metadata"]
            if kind == "DiffusionDeployment":
                kept: Any = (
                    metadata["uid"],
                    metadata["generation"],
                    item["spec"],
                    metadata.get("annotations"),
                )
            elif kind == "Deployment":
                kept = (metadata["uid"], metadata["generation"], item["spec"]["strategy"])
            else:
                restarts = [one["restartCount"] for one in item["status"]["containerStatuses"]]
                kept = (metadata["uid"], restarts)
            found[f"{kind} {metadata['name']}"] = kept
        return found


def _runs(pod: Object) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def other_version(cluster: Cluster, folder: Path) -> OtherVersion:
    """Make the chart, and give the operator image of this tree a second tag in the node."""
    chart = folder / "diffusion-operator"
    shutil.copytree(CHART, chart)
    about = chart / "Chart.yaml"
    text = about.read_text()
    assert "version: 0.1.0" in text
    about.write_text(text.replace("version: 0.1.0", "version: 0.2.0").replace('"0.1.0"', '"0.2.0"'))
    definitions = chart / "templates" / "crds.yaml"
    text = definitions.read_text()
    assert text.count(BEFORE_FIELD) == 1
    definitions.write_text(text.replace(BEFORE_FIELD, NEW_FIELD + BEFORE_FIELD))
    image = json.loads(helm(cluster, "get", "values", HELM_RELEASE, *IN, "-o", "json"))["operator"]["image"]
    present, tag = f"{image['repository']}:{image['tag']}", f"{image['tag']}-other"
    in_node(cluster, f"ctr -n k8s.io images tag --force {present} {image['repository']}:{tag}")
    return OtherVersion(chart, tag)


def upgrade_and_back(fleet: Fleet, other: OtherVersion) -> dict[str, float]:
    """Both ways; after each the new leader has looked at all and nothing has changed. Seconds of each.

    The way back is gone in any case: other tests find the chart of this tree.
    """
    before, revision = fleet.seen(), _revision(fleet.room.cluster)
    assert len(before) == 3 * fleet.size
    changed = ["--reset-then-reuse-values", "--set-string", f"operator.image.tag={other.tag}"]
    changed += ["--set", "operator.logFormat=json"]
    try:
        upgrade_s = _step(fleet, before, "upgrade", HELM_RELEASE, str(other.chart), *changed)
    finally:
        rollback_s = _step(fleet, before, "rollback", HELM_RELEASE, str(revision))
    return {"upgrade": upgrade_s, "rollback": rollback_s}


def _step(fleet: Fleet, before: dict[str, Any], what: str, *words: str) -> float:
    cluster, began_s = fleet.room.cluster, time.monotonic()
    helm(cluster, what, *words, *IN, *WAIT)
    assert _has_new_field(cluster) == (what == "upgrade")
    await_leader(cluster)
    all_seen = f"{fleet.size} reconciles of the new operator"
    until(lambda: metric(cluster, RECONCILED) >= fleet.size, all_seen, 120)
    took_s = round(time.monotonic() - began_s, 1)
    after = fleet.seen()
    changed = [(before[name], after.get(name)) for name in before if after.get(name) != before[name]]
    assert after == before, changed[:10]
    return took_s


def _revision(cluster: Cluster) -> int:
    listed = json.loads(helm(cluster, "history", HELM_RELEASE, *IN, "-o", "json"))
    return int(listed[-1]["revision"])


def _has_new_field(cluster: Cluster) -> bool:
    text = cluster.kubectl("get", "crd", "diffusiondeployments.diffusion-operator.io", "-o", "json")
    return "fieldOfTheOtherVersion" in text
