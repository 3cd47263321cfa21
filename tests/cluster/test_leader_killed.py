"""The replica that leads is killed without a word: the other one takes over within 15 s and carries on."""

from __future__ import annotations

from datetime import UTC, datetime

from cluster.conftest import SERVED
from cluster.operatorpods import holder, kill
from cluster.room import Room, manifest, pod_is_ready
from cluster.watching import Object, State, await_state
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE

TAKEOVER_SECONDS = 15.0


def led(room: Room, not_by: str = "") -> Object:
    """The Lease as soon as a pod holds it, another one than `not_by`."""

    def held(state: State) -> bool:
        return HELM_RELEASE in state and holder(state[HELM_RELEASE]) not in ("", not_by)

    what = f"a leader other than {not_by or 'none'}"
    return await_state(room.cluster, OPERATOR_NAMESPACE, "leases", held, what)[HELM_RELEASE]


def test_the_other_replica_takes_over_and_applies_a_change(served: Room, room: Room) -> None:
    room.cluster.kubectl(
        "-n", OPERATOR_NAMESPACE, "rollout", "status", f"deployment/{HELM_RELEASE}", "--timeout=120s"
    )
    (before,) = served.pods(SERVED)
    leader = holder(led(room))
    kill(room.cluster, leader)
    killed_at = datetime.now(UTC)
    room.apply(manifest("two"))
    # By the Lease's own record: how long this machine takes to show it is no part of the promise.
    acquired = datetime.fromisoformat(led(room, not_by=leader)["spec"]["acquireTime"])
    taken_over_s = (acquired - killed_at).total_seconds()
    assert 0 < taken_over_s <= TAKEOVER_SECONDS, f"it took {taken_over_s:.1f} s"
    # A new deployment is decided only by a leader, so its plan proves that somebody leads.
    room.await_dd("two", lambda dd: "plan" in dd.get("status", {}), "has a plan", 60)
    room.await_pods("two", lambda state: bool(state), "a pod of what was applied while nobody led")
    (after,) = served.pods(SERVED)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert pod_is_ready(after)
    assert after["status"]["containerStatuses"][0]["restartCount"] == 0
    print(f"leader killed to Lease held again: {taken_over_s:.1f} s")
