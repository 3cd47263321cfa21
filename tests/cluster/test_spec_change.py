"""A changed spec rolls the pods; a deleted deployment takes its children along; a finalizer never appears."""

from __future__ import annotations

import json

import pytest

from cluster.room import Room, manifest, pod_is_ready
from cluster.steady import drawing
from cluster.watching import Object, State, await_state

CHILD_KINDS = (
    "deployments",
    "services",
    "configmaps",
    "poddisruptionbudgets",
    "serviceaccounts",
    "replicasets",
    "pods",
)
LABEL = "app.kubernetes.io/managed-by=diffusion-operator"


def _children(room: Room) -> list[Object]:
    found: list[Object] = json.loads(room.kubectl("get", ",".join(CHILD_KINDS), "-l", LABEL, "-o", "json"))[
        "items"
    ]
    return found


def _served_by(plan_hash: str, state: State) -> bool:
    live = [pod for pod in state.values() if "deletionTimestamp" not in pod["metadata"]]
    annotations = [pod["metadata"]["annotations"]["diffusion-operator.io/plan-hash"] for pod in live]
    return annotations == [plan_hash] and pod_is_ready(live[0])


@pytest.mark.ahead(manifest("follow"))
def test_pods_follow_the_spec_and_deletion_leaves_nothing(room: Room) -> None:
    before = room.await_ready("follow")["status"]["plan"]

    shape = {"width": 64, "height": 64, "steps": 4}
    with drawing(room, "follow", at_once=1, pause_s=0.5) as answers:
        room.apply(manifest("follow", workload={"shapes": [shape]}))
        after = room.await_ready("follow")["status"]["plan"]
        assert after["hash"] != before["hash"]
        room.await_pods(
            "follow", lambda state: _served_by(after["hash"], state), "one pod, of the new plan, Ready"
        )
    assert answers.others("retryable") == {}, answers
    assert answers.kinds["200"] > 0

    children = _children(room)
    assert {child["kind"] for child in children} >= {
        "Deployment",
        "Service",
        "ConfigMap",
        "ServiceAccount",
        "Pod",
    }
    assert [
        child["metadata"].get("finalizers") for child in children if child["metadata"].get("finalizers")
    ] == []
    assert "finalizers" not in room.get("follow")["metadata"]

    room.kubectl("delete", "dd", "follow", "--wait=true", "--timeout=30s")
    for kind in CHILD_KINDS:
        await_state(
            room.cluster, room.namespace, kind, lambda state: not state, f"no {kind} left", selector=LABEL
        )
