"""An engine's pod is evicted while it draws: what it accepted is answered, and a replacement serves.

Killed, drained, out of memory, on a node that is away: tests/full/cluster_faults.
"""

from __future__ import annotations

import pytest

from cluster.outages import evict
from cluster.room import Room, manifest, pod_is_ready
from cluster.steady import DEADLINE_SECONDS, drawing


# Once the engines of the others are up: while ten of them start, three pictures can take a minute.
@pytest.mark.usefixtures("served")
def test_what_was_accepted_is_answered(room: Room) -> None:
    room.apply(manifest("drawn"))
    room.await_ready("drawn")
    (pod,) = room.pods("drawn")
    with drawing(room, "drawn", at_once=3) as answers:
        evict(room.cluster, pod)
        room.await_pods(
            "drawn",
            lambda state: (
                [
                    one["metadata"]["uid"] != pod["metadata"]["uid"] and pod_is_ready(one)
                    for one in state.values()
                    if "deletionTimestamp" not in one["metadata"]
                ]
                == [True]
            ),
            "one replacement, Ready",
        )
    assert answers.others("retryable", "not accepted") == {}, answers
    assert answers.longest_s < DEADLINE_SECONDS
