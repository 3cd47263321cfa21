"""A few dozen bad DiffusionDeployments against the real API server and the installed operator.

The full suite sends 2,000 and holds the 5 s that are promised. These are the same in small, one after the
other kind, all judged the same way, but engines start and end beside them: how long it takes says nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from builders.bad_resources import KINDS, bad_resources
from cluster.conftest import SERVED
from cluster.good_neighbours import (
    BASE,
    Neighbours,
    bring_empty_nodes,
    operator_pods,
    remove_empty_nodes,
    traces_in_the_log,
)
from cluster.room import Room
from cluster.verdicts import GIVE_UP_S, live
from localcluster.kindcluster import Cluster

EACH = 6


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[None]:
    bring_empty_nodes(cluster, 2)
    yield
    remove_empty_nodes(cluster)


@pytest.mark.usefixtures("nodes")
async def test_each_is_refused_by_its_path_or_answered_in_conditions(room: Room, served: Room) -> None:
    neighbours = Neighbours(served, (SERVED,))
    neighbours.note()
    since, pods = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), operator_pods(room.cluster)
    resources = bad_resources(BASE)
    chosen = [bad for kind in KINDS for bad in [one for one in resources if one.kind == kind][:EACH]]
    async with live(room.cluster.folder.kubeconfig, room.namespace, longest_s=GIVE_UP_S) as api:
        verdicts = await api.judge_all(chosen)
    assert [f"{v.number} {v.kind}: {v.fault}" for v in verdicts if v.fault] == []
    assert {v.refused for v in verdicts} == {True, False}
    assert traces_in_the_log(room.cluster, since) == []
    assert operator_pods(room.cluster) == pods
    assert neighbours.changed() == []
