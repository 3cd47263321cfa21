"""The operator's pod is killed in the middle of a change: the end state is the same, and serving goes on
meanwhile.
"""

from __future__ import annotations

from cluster.room import Room, manifest, pod_is_ready
from localcluster.settings import OPERATOR_NAMESPACE

OPERATOR = "app.kubernetes.io/component=operator"


def test_end_state_is_the_same(room: Room) -> None:
    room.apply(manifest("one"))
    room.await_dd("one", lambda dd: "plan" in dd.get("status", {}), "has a plan")
    room.cluster.kubectl(
        "-n",
        OPERATOR_NAMESPACE,
        "delete",
        "pod",
        "-l",
        OPERATOR,
        "--grace-period=0",
        "--force",
        "--wait=false",
    )
    room.apply(manifest("two", workload={"guidance": "on"}))
    one, two = room.await_ready("one"), room.await_ready("two")
    for dd in (one, two):
        name = dd["metadata"]["name"]
        (pod,) = room.pods(name)
        assert pod_is_ready(pod)
        assert (
            pod["metadata"]["annotations"]["diffusion-operator.io/plan-hash"] == dd["status"]["plan"]["hash"]
        )
    room.cluster.kubectl(
        "-n", OPERATOR_NAMESPACE, "wait", "--for=condition=Available", "deployment", "--all", "--timeout=60s"
    )
