"""The replica that leads is killed without a word: the other one takes over within 15 s and carries on."""

from __future__ import annotations

import json
import time

from cluster.room import Room, manifest, pod_is_ready
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE

TAKEOVER_SECONDS = 15.0


def holder(room: Room) -> str:
    """The pod that leads; the identity in the Lease is the pod's name and the process's own mark."""
    words = ("-n", OPERATOR_NAMESPACE, "get", "lease", HELM_RELEASE, "-o", "json")
    identity = str(json.loads(room.cluster.kubectl(*words))["spec"].get("holderIdentity", ""))
    return identity.rpartition("_")[0]


def kill(room: Room, pod: str) -> None:
    """SIGKILL to the container's first process, through the node: nothing is released, nothing is said."""
    node, provider = room.cluster.folder.node, room.cluster.provider
    words = ("-n", OPERATOR_NAMESPACE, "get", "pod", pod, "-o", "json")
    status = json.loads(room.cluster.kubectl(*words))["status"]
    container = status["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    provider.call("exec", node, "ctr", "-n", "k8s.io", "task", "kill", "-s", "SIGKILL", container)


def test_the_other_replica_takes_over_and_applies_a_change(room: Room) -> None:
    room.cluster.kubectl(
        "-n", OPERATOR_NAMESPACE, "rollout", "status", f"deployment/{HELM_RELEASE}", "--timeout=120s"
    )
    room.apply(manifest("one"))
    room.await_ready("one")
    leader = holder(room)
    assert leader
    kill(room, leader)
    killed_s = time.monotonic()
    room.apply(manifest("two"))
    # A new deployment is decided only by a leader, so its plan proves that somebody leads.
    room.await_dd("two", lambda dd: "plan" in dd.get("status", {}), "has a plan", 60)
    taken_over_s = time.monotonic() - killed_s
    assert holder(room) not in ("", leader)
    assert taken_over_s <= TAKEOVER_SECONDS, f"it took {taken_over_s:.1f} s"
    room.await_ready("two")
    (one,) = room.pods("one")
    assert pod_is_ready(one)
    assert one["status"]["containerStatuses"][0]["restartCount"] == 0
    print(f"leader killed to next decision: {taken_over_s:.1f} s")
