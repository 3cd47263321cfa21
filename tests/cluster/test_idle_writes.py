"""While nothing changes, the operator writes nothing: counted in the API server's own audit log over 60 s."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.room import Room
from localcluster.settings import OPERATOR_NAMESPACE

IDLE_SECONDS = 60
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:"


def _writes(log: Path, offset: int) -> list[dict[str, Any]]:
    with log.open() as lines:
        lines.seek(offset)
        events = [json.loads(line) for line in lines if line.endswith("\n")]
    return [event for event in events if event["user"]["username"].startswith(OPERATOR_USER)]


@pytest.mark.usefixtures("alone")
def test_no_write_in_a_minute_of_nothing(served: Room) -> None:
    log = served.cluster.folder.audit_log
    assert _writes(log, 0), (
        "the audit log must hold the operator's writes of the installation, or it proves nothing"
    )
    start = log.stat().st_size
    time.sleep(IDLE_SECONDS)  # the window itself is the behaviour
    written = [
        f"{event['verb']} {event['requestURI']}"
        for event in _writes(log, start)
        if event.get("objectRef", {}).get("resource") != "leases"
    ]
    assert written == []
    assert log.stat().st_size > start, "the cluster's own lease renewals must appear, or the log stood still"
