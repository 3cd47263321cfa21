"""F6: for a minute the API server refuses or delays a share of all requests; then all is as was wished."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.controlplane import ControlPlane
from cluster.faultproxy import ANSWERS, fault_proxy
from cluster.hostoperator import (
    apply,
    children,
    furnish,
    kept_running,
    looked_at,
    operators_kubeconfig,
    wish,
)
from cluster.room import DEPLOYMENT_LABEL
from cluster.running import running_plane
from cluster.watching import until
from full.cluster_faults.results import record

STRUCK_S = CONVERGED_S = 60.0
SERVE = ("serves-0", "serves-1")
BEFORE = (*SERVE, "changes", "goes")
AFTER = {**dict.fromkeys(SERVE, 1), "changes": 2, "comes": 1}

pytestmark = pytest.mark.timeout(600)


def running(plane: ControlPlane) -> dict[str, Any]:
    """What must stay of those who serve: their pods with restarts, their Deployments as they are."""
    listed = json.loads(plane.kubectl("get", "pods,deployments", "-n", "default", "-o", "json"))["items"]
    found: dict[str, Any] = {}
    for item in listed:
        metadata = item["metadata"]
        if metadata["labels"][DEPLOYMENT_LABEL] not in SERVE:
            continue
        if item["kind"] == "Pod":
            if item.get("status", {}).get("phase") == "Running":
                found[metadata["uid"]] = [one["restartCount"] for one in item["status"]["containerStatuses"]]
        else:
            found[metadata["uid"]] = metadata["generation"]
    return found


@pytest.mark.parametrize("percent", [10, 50, 100])
def test_the_last_wishes_are_followed_and_nobody_who_serves_notices(tmp_path: Path, percent: int) -> None:
    chance = random.Random(percent)
    with (
        running_plane(tmp_path) as plane,
        fault_proxy(f"https://127.0.0.1:{plane.port}") as proxy,
    ):
        furnish(plane)
        with kept_running(operators_kubeconfig(plane, proxy.url), tmp_path) as operator:
            apply(plane, *map(wish, BEFORE))
            until(lambda: looked_at(plane) == set(BEFORE), "deployments before the faults", 60)
            until(lambda: len(running(plane)) == 2 * len(SERVE), "pods that run", 60)
            before = running(plane)
            proxy.kinds, proxy.share = ANSWERS, percent / 100
            began_s = time.monotonic()
            apply(plane, wish("comes"))
            while (gone_s := time.monotonic() - began_s) < STRUCK_S:
                replicas = chance.randint(0, 2)
                apply(plane, wish("changes", replicas=replicas))
                if gone_s > STRUCK_S / 2:
                    plane.kubectl("delete", "dd", "goes", "-n", "default", "--ignore-not-found")
                time.sleep(chance.uniform(0.0, 2.0))  # the faults' own time
            apply(plane, wish("changes", replicas=AFTER["changes"]))
            proxy.share = 0.0
            took_s = until(
                lambda: children(plane) == AFTER and looked_at(plane) == AFTER.keys(),
                "the last wishes, after the faults",
                CONVERGED_S,
            )
            assert running(plane) == before
            assert sum(proxy.struck.values()) >= percent
            assert not operator.said("bug in the operator")
            record(
                f"F6: {percent} % of requests",
                took_s,
                struck=dict(proxy.struck),
                starts=operator.starts,
            )
