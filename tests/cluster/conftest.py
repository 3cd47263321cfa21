"""Starts the test cluster once, installs the product through Helm, and leaves nothing behind.

``DIFFUSION_KEEP_CLUSTER=1`` keeps the cluster for the next run while tests are being written.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.room import Room, manifest
from cluster.watching import await_state
from localcluster.commands import start_cluster_with_images, stop_cluster
from localcluster.gpunodes import set_gpus
from localcluster.install import install
from localcluster.kindcluster import Cluster
from localcluster.settings import OPERATOR_NAMESPACE, TEST_CLUSTER

GPUS = 8
LONGEST_SECONDS = 3600
SERVED = "served"
RESTRICTED = ("pod-security.kubernetes.io/enforce", "restricted")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first test's time includes the cluster's start, and on a new machine everything that is built for
    it.
    """
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(LONGEST_SECONDS))


def restrict(cluster: Cluster, namespace: str) -> None:
    """Make a namespace that takes no pod beyond the restricted Pod Security profile."""
    metadata = {"name": namespace, "labels": dict([RESTRICTED])}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """The test cluster with the product on it."""
    try:
        running, images = start_cluster_with_images(TEST_CLUSTER)
        restrict(running, OPERATOR_NAMESPACE)
        install(running, images)
        yield running
    finally:
        if os.environ.get("DIFFUSION_KEEP_CLUSTER") != "1":
            stop_cluster(TEST_CLUSTER)


@pytest.fixture
def room(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Room]:
    """A namespace for one test; when it ends, the namespace and all pods in it are gone and the GPUs are
    free again.
    """
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-")
    yield from _namespace(cluster, name)


@pytest.fixture(scope="session")
def served(cluster: Cluster) -> Iterator[Room]:
    """A namespace with one deployment, named SERVED, that is Ready; tests leave it as they found it."""
    for room in _namespace(cluster, "served"):
        room.apply(manifest(SERVED, workload={"guidance": "on"}))
        room.await_ready(SERVED)
        yield room


@pytest.fixture
def gpus(cluster: Cluster) -> Iterator[None]:
    """For tests that change the number of GPUs of the node: it is 8 again afterwards."""
    yield
    set_gpus(cluster, GPUS)


def _namespace(cluster: Cluster, name: str) -> Iterator[Room]:
    restrict(cluster, name)
    room = Room(cluster, name)
    try:
        yield room
    finally:
        # Pods first, so that the next test finds free GPUs; an empty namespace ends by itself soon after.
        room.kubectl("delete", "dd", "--all", "--timeout=60s")
        await_state(cluster, name, "pods", lambda state: not state, f"no pods left in {name}")
        cluster.kubectl("delete", "namespace", name, "--wait=false")
