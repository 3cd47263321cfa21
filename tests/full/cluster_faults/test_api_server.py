"""F8: the API server or its store is away, or of another time; engines serve on and the operator returns."""

from __future__ import annotations

import time

import pytest

from cluster.operatorpods import await_leader, said
from cluster.outages import (
    CLIENTS,
    EVERYTHING,
    SERVER,
    STORE,
    await_server,
    away,
    back_up,
    restart_watchers,
    restore,
)
from cluster.room import Room, manifest
from cluster.steady import drawing
from full.cluster_faults.results import record

AWAY_S = {"server": 300.0, "store": 20.0}
CONVERGED_S = 30.0
FURTHER_WRITES = 300

pytestmark = pytest.mark.timeout(3600)


def engine_of(room: Room, name: str = "serves") -> list[tuple[str, int]]:
    """Uid and restarts of each pod."""
    return sorted(
        (pod["metadata"]["uid"], pod["status"]["containerStatuses"][0]["restartCount"])
        for pod in room.pods(name)
    )


def planned(room: Room, name: str) -> float:
    """Make one; seconds until the operator has planned it."""
    began_s = time.monotonic()
    room.apply(manifest(name))
    room.await_dd(name, lambda dd: "plan" in dd.get("status", {}), "has a plan", CONVERGED_S)
    return time.monotonic() - began_s


@pytest.mark.parametrize("what", ["server", "store"])
def test_away(room: Room, what: str) -> None:
    parts = (SERVER, *CLIENTS) if what == "server" else (STORE,)
    room.apply(manifest("serves"))
    room.await_ready("serves")
    engine = engine_of(room)
    with drawing(room, "serves") as answers:
        with away(room.cluster, *parts):
            time.sleep(AWAY_S[what])  # the outage itself
        took_s = planned(room, "new")
    room.await_ready("new", 300)
    assert answers.failed == 0, answers
    assert answers.kinds["200"] >= AWAY_S[what]
    assert engine_of(room) == engine
    name = "F8: API server away" if what == "server" else "F8: etcd restarted"
    record(name, took_s, answers=dict(answers.kinds), awaySeconds=AWAY_S[what])


def test_restored_from_a_backup(room: Room) -> None:
    cluster = room.cluster
    room.apply(manifest("serves"))
    room.await_ready("serves")
    engine = engine_of(room)
    with away(cluster, *EVERYTHING):
        back_up(cluster)
    await_leader(cluster)
    room.apply(manifest("lost"))
    room.await_ready("lost", 300)
    for number in range(FURTHER_WRITES):
        room.kubectl("label", "--overwrite", "dd", "lost", f"write={number}")
    began_s = time.monotonic()
    restore(cluster)
    took_s = planned(room, "new")
    restart_watchers(cluster)
    await_server(cluster)
    room.await_ready("new", 300)
    room.await_ready("serves", 300)
    room.await_pods("lost", lambda state: not state, "nothing of what the backup does not know")
    assert engine_of(room) == engine
    text = said(cluster, began_s) + said(cluster, began_s, before=True)
    assert "the store of the API server went back" in text
    assert "Traceback" not in text
    record("F8: etcd restored", took_s)
