"""A deployment lands on the GPUs that it names, and only where it tolerates the node's taint."""

from __future__ import annotations

from cluster.room import Room, manifest
from localcluster.gpunodes import FAKE_TAINT, H200

TOLERATES = [{"key": FAKE_TAINT, "operator": "Exists"}]


def test_named_product_is_planned_for(room: Room) -> None:
    hardware = {"productIn": [H200.product], "tolerations": TOLERATES}
    room.apply(manifest("chosen", suspend=True, hardware=hardware))
    dd = room.await_dd("chosen", lambda dd: "plan" in dd.get("status", {}), "has a plan")
    assert dd["status"]["plan"]["product"] == H200.product
    assert dd["status"]["plan"]["group"] == "h200"


def test_tainted_nodes_do_not_count_without_toleration(room: Room) -> None:
    room.apply(manifest("refused", suspend=True, hardware={"productIn": [H200.product]}))
    stalled = next(
        entry for entry in room.await_stalled("refused")["status"]["conditions"] if entry["type"] == "Stalled"
    )
    assert stalled["reason"] == "NoGPUNodes"
    assert H200.product in stalled["message"]
