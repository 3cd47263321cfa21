"""The chart is upgraded and rolled back: no pod is replaced, no Deployment rolled, no field lost.

With two hundred deployments: tests/full/cluster_faults.
"""

from __future__ import annotations

from pathlib import Path

from cluster.room import Room
from cluster.upgrades import Fleet, other_version, upgrade_and_back


def test_eight_deployments_notice_nothing(room: Room, tmp_path: Path) -> None:
    with Fleet(room, nodes=1).live() as fleet:
        print(upgrade_and_back(fleet, other_version(room.cluster, tmp_path)))
