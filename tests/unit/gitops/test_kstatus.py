"""What the kstatus library, and so Flux and `helm --wait`, makes of the operator's own statuses."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from localcluster.gotools import kstatus
from unit.gitops.statuses import STATES

EXPECTED = {
    "ready": "Current",
    "starting": "InProgress",
    "waiting_for_gpus": "InProgress",
    "some_replicas_wait": "InProgress",
    "stalled": "Failed",
    "went_back": "Failed",
    "on_a_fallback": "Current",
    "downgraded": "Current",
    "fetching_the_model": "InProgress",
    "waiting_for_nodes": "InProgress",
    "waited_for_nodes_in_vain": "Failed",
    "no_replicas": "InProgress",
    "suspended": "InProgress",
    "not_seen": "InProgress",
    "changed_and_not_yet_seen": "InProgress",
    "being_deleted": "Terminating",
}


def computed(objects: list[Any]) -> list[dict[str, str]]:
    ran = subprocess.run(
        [kstatus()], input=json.dumps(objects), capture_output=True, text=True, timeout=60, check=True
    )
    found: list[dict[str, str]] = json.loads(ran.stdout)
    return found


@pytest.mark.timeout(900)  # builds the program when the cache has none
async def test_each_state() -> None:
    objects = [await made() for made in STATES.values()]
    found = dict(zip(STATES, computed(objects), strict=True))
    assert {state: answer["status"] for state, answer in found.items()} == EXPECTED
    assert "needs 4 GPUs of one node" in found["waiting_for_gpus"]["message"]
    assert "need 8 GPUs per replica" in found["stalled"]["message"]
    assert "no pod became ready within 300 s" in found["went_back"]["message"]
    assert "none came in 15 minutes" in found["waited_for_nodes_in_vain"]["message"]
