"""F9: rights or the definition are taken away and given back; it is said, and nothing is restarted."""

from __future__ import annotations

import json
import time

import pytest

from cluster.definitions import await_served
from cluster.operatorpods import (
    CLUSTER_BINDING,
    OWN_BINDING,
    await_leader,
    fresh,
    metric,
    pods,
    said,
    starts,
    without,
)
from cluster.room import Room, condition, manifest
from cluster.watching import until
from full.cluster_faults.results import record
from localcluster.settings import HELM_RELEASE

CRD = "diffusiondeployments.diffusion-operator.io"
AWAY_S = 60.0
NAMED_S = CONVERGED_S = 30.0

pytestmark = pytest.mark.timeout(900)


def planned_after(room: Room, name: str, since_s: float) -> float:
    """Seconds from then until the operator has planned it."""
    left_s = CONVERGED_S - (time.monotonic() - since_s)
    room.await_dd(name, lambda dd: "plan" in dd.get("status", {}), "has a plan", left_s)
    return time.monotonic() - since_s


@pytest.mark.parametrize("what", ["cluster role", "all rights"])
def test_rights_gone(room: Room, what: str) -> None:
    cluster, everything = room.cluster, what == "all rights"
    await_leader(cluster)
    before, began_s = starts(cluster), time.monotonic()
    words = "its role does not allow" if everything else "403"
    counted = (
        "diffusion_operator_blocked" if everything else r"diffusion_operator_api_calls_total\{code=\"403\""
    )
    with without(cluster, CLUSTER_BINDING, *([OWN_BINDING] if everything else [])) as bring_back:
        room.apply(manifest("new"))
        named_s = until(
            lambda: words in said(cluster, began_s) and metric(cluster, counted) >= 1.0,
            f"log and metric of {what} gone",
            NAMED_S,
        )
        time.sleep(max(0.0, AWAY_S - (time.monotonic() - began_s)))  # the fault itself
        bring_back()
        took_s = planned_after(room, "new", time.monotonic())
    restarted = starts(cluster) - before
    assert restarted <= (len(pods(cluster)) if everything else 0)
    assert "Traceback" not in said(cluster, began_s)
    record(f"F9: {what} gone", took_s, namedSeconds=round(named_s, 1), restarts=restarted)


def test_one_right_gone(room: Room) -> None:
    cluster = room.cluster
    await_leader(cluster)
    before, began_s = starts(cluster), time.monotonic()
    role = fresh(json.loads(cluster.kubectl("get", "clusterrole", HELM_RELEASE, "-o", "json")))
    less = role | {"rules": [rule for rule in role["rules"] if "deployments" not in rule["resources"]]}
    assert len(less["rules"]) == len(role["rules"]) - 1
    cluster.kubectl("replace", "-f", "-", stdin=json.dumps(less))
    try:
        room.apply(manifest("new"))
        room.await_dd(
            "new",
            lambda dd: "lacks a permission" in condition(dd, "Ready").get("message", ""),
            "says which permission is missing",
            NAMED_S,
        )
        named_s = time.monotonic() - began_s
    finally:
        cluster.kubectl("replace", "-f", "-", stdin=json.dumps(role))
    back_s = time.monotonic()
    room.await_ready("new")
    assert starts(cluster) == before
    record("F9: one right gone", time.monotonic() - back_s, namedSeconds=round(named_s, 1))


def test_definition_gone(room: Room) -> None:
    cluster = room.cluster
    room.apply(manifest("serves"))
    room.await_ready("serves")
    await_leader(cluster)
    before, began_s = starts(cluster), time.monotonic()
    words = "is its custom resource definition installed?"
    with without(cluster, ("crd", CRD)) as bring_back:
        named_s = until(
            lambda: words in said(cluster, began_s) and metric(cluster, "diffusion_operator_blocked") >= 1.0,
            "log and metric of the definition that is gone",
            NAMED_S,
        )
        time.sleep(max(0.0, AWAY_S - (time.monotonic() - began_s)))  # the fault itself
        bring_back()
        await_served(cluster.kubectl)
        back_s = time.monotonic()
        room.apply(manifest("serves"))
        took_s = planned_after(room, "serves", back_s)
    room.await_ready("serves")
    assert starts(cluster) == before
    text = said(cluster, began_s)
    assert "Traceback" not in text
    lines = sum(words in line for line in text.splitlines())
    record("F9: definition gone", took_s, namedSeconds=round(named_s, 1), linesLogged=lines)
