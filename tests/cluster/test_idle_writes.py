"""While nothing changes, the operator writes nothing: counted in the API server's own audit log over 60 s.

Tests that change nothing run in that minute (QUIET in conftest).
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from cluster.room import Room
from localcluster.settings import OPERATOR_NAMESPACE

SETTLE = timedelta(seconds=10)  # what the operator has to say of engines that have just become Ready
IDLE = timedelta(seconds=60)
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:"


def _received(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["requestReceivedTimestamp"])


def test_no_write_in_a_minute_of_nothing(served: Room, quiet: datetime) -> None:
    begin = quiet + SETTLE
    left = begin + IDLE - datetime.now(UTC)
    time.sleep(max(left.total_seconds(), 0))  # the window itself is the behaviour
    with served.cluster.folder.audit_log.open() as lines:
        events = [json.loads(line) for line in lines if line.endswith("\n")]
    writes = [event for event in events if event["user"]["username"].startswith(OPERATOR_USER)]
    assert [event for event in writes if _received(event) < quiet], (
        "the audit log must hold the operator's writes of the installation, or it proves nothing"
    )
    written = [
        f"{event['verb']} {event['requestURI']}"
        for event in writes
        if _received(event) >= begin and event.get("objectRef", {}).get("resource") != "leases"
    ]
    assert written == []
    assert _received(events[-1]) > begin, (
        "the cluster's own lease renewals must appear, or the log stood still"
    )
