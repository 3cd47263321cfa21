"""2,000 bad DiffusionDeployments against the real API server and the installed operator, in batches of 100.

Writes docs/results/bad-resources.json and the table beside it. A batch that passed with these sources stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from builders.bad_resources import COUNT, bad_resources
from cluster.conftest import cluster, restrict  # the fixture is used by its name
from cluster.good_neighbours import (
    BASE,
    Neighbours,
    bring_empty_nodes,
    operator_pods,
    remove_empty_nodes,
    start_neighbours,
    traces_in_the_log,
)
from cluster.room import Room
from cluster.verdicts import live
from full.bad_resources.results import keep, read_result
from localcluster.gpunodes import set_gpus
from localcluster.kindcluster import Cluster

BATCH = 100
BATCHES = COUNT // BATCH
RESOURCES = bad_resources(BASE)
__all__ = ["cluster"]


@pytest.fixture(scope="module")
def neighbours(cluster: Cluster) -> Iterator[Neighbours]:
    """Two that serve, and no other GPU on the real node: an admitted one never starts an engine."""
    restrict(cluster, "good")
    restrict(cluster, "bad")
    set_gpus(cluster, 2)
    bring_empty_nodes(cluster, 8)
    try:
        yield start_neighbours(Room(cluster, "good"), "one", "two")
    finally:
        remove_empty_nodes(cluster)
        set_gpus(cluster, 8)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("batch", range(BATCHES))
async def test_refused_by_path_or_told_in_conditions(neighbours: Neighbours, batch: int) -> None:
    if str(batch) in read_result()["batches"]:
        return
    cluster = neighbours.room.cluster
    start, since = time.monotonic(), datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    pods = operator_pods(cluster)
    async with live(cluster.folder.kubeconfig, "bad") as api:
        verdicts = await api.judge_all(RESOURCES[batch * BATCH : (batch + 1) * BATCH])
    neighbours.draw()
    assert [f"{v.number} {v.kind}: {v.fault}" for v in verdicts if v.fault] == []
    assert traces_in_the_log(cluster, since) == []
    assert operator_pods(cluster) == pods
    assert neighbours.changed() == []
    keep(batch, verdicts, time.monotonic() - start)


def test_the_file_holds_every_batch() -> None:
    assert sorted(map(int, read_result()["batches"])) == list(range(BATCHES))
