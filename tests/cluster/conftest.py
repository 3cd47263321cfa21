"""Starts the test cluster once, installs the product through Helm, and leaves nothing behind.

``DIFFUSION_KEEP_CLUSTER=1`` keeps the cluster for the next run while tests are being written.

What takes time here is engines that start: each keeps one core busy for ten seconds. So tests say which ones
they need (``@pytest.mark.ahead``), all of these start together before the first test, and tests that need no
engine run meanwhile. The cluster starts as soon as tests are chosen, while those of other folders run.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster import model_source
from cluster.room import DEPLOYMENT_LABEL, READY_SECONDS, Room, is_true, manifest
from cluster.watching import EVERYWHERE, State, await_state
from localcluster.commands import start_cluster_with_images, stop_cluster
from localcluster.gpunodes import set_gpus
from localcluster.install import install
from localcluster.kindcluster import Cluster
from localcluster.settings import OPERATOR_NAMESPACE, TEST_CLUSTER

GPUS = 16
LONGEST_SECONDS = 3600
LONGEST_NAMESPACE = 50
SERVED = "served"
SERVED_MANIFEST = manifest(SERVED, workload={"guidance": "on"})
RESTRICTED = ("pod-security.kubernetes.io/enforce", "restricted")
AHEAD = "ahead"
STARTING = pytest.StashKey["subprocess.Popen[bytes]"]()
FOLDER = Path(__file__).parent
QUIET = ("test_words_for_strangers", "test_admission", "test_autoscaled_by_queue", "test_idle_writes")
"""Files of tests that change nothing in the cluster, and the one that looks whether anything was written."""
DISTURBING = (
    "test_last_gpus",
    "test_operator_killed",
    "test_helm_waits",
    "test_leader_killed",
    "test_nodes_that_come",
    "test_node_agent",
)
"""Files of tests that need the cluster for themselves or restart the operator: last, in this order."""


def pytest_configure(config: pytest.Config) -> None:
    line = (
        f"{AHEAD}(*documents): applied in the test's room before the first test, so that it starts meanwhile"
    )
    config.addinivalue_line("markers", line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First what needs no engine; when all engines are up what changes nothing, then what uses them, at last
    what disturbs.

    The first test's time includes the cluster's start, and on a new machine everything that is built for it.
    """
    ours = [item for item in items if item.path.is_relative_to(FOLDER)]
    for item in ours:
        item.add_marker(pytest.mark.timeout(LONGEST_SECONDS))
    items[:] = [item for item in items if item not in ours] + sorted(ours, key=_turn)


def _turn(item: pytest.Item) -> int:
    """Where a test comes."""
    ordered = ("no engine", *QUIET, "an engine", *DISTURBING)
    if item.path.stem in ordered:
        return ordered.index(item.path.stem)
    started = AHEAD in item.keywords or SERVED in getattr(item, "fixturenames", ())
    return ordered.index("an engine" if started else "no engine")


def restrict(cluster: Cluster, namespace: str) -> None:
    """Make a namespace that takes no pod beyond the restricted Pod Security profile."""
    metadata = {"name": namespace, "labels": dict([RESTRICTED])}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})


def pytest_collection_finish(session: pytest.Session) -> None:
    """In a process of its own: what it prints is not for tests that look at what they print."""
    ours = [item for item in session.items if item.path.is_relative_to(FOLDER)]
    wanted = any("cluster" in getattr(item, "fixturenames", ()) for item in ours)
    if wanted and not session.config.option.collectonly:
        command = [sys.executable, "-m", "localcluster", "--cluster", "test", "up"]
        where = {**os.environ, "PYTHONPATH": str(FOLDER.parent)}
        session.stash[STARTING] = subprocess.Popen(
            command, env=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where the session ends before any test has asked for the cluster, it goes all the same."""
    if STARTING in session.stash:
        session.stash[STARTING].wait()
        _stop()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The test cluster with the product on it, and every engine on its way that a chosen test wants ahead."""
    stash = request.session.stash
    if STARTING in stash:
        stash[STARTING].wait()  # where it failed, the same steps say why now
        del stash[STARTING]
    try:
        running = _start()
        _begin(running, request.session.items)
        yield running
    finally:
        _stop()


def _start() -> Cluster:
    """The test cluster with the product on it."""
    running, images = start_cluster_with_images(TEST_CLUSTER)
    restrict(running, OPERATOR_NAMESPACE)
    install(running, images, hubEndpoint=model_source.ADDRESS)
    set_gpus(running, GPUS)
    return running


def _stop() -> None:
    if os.environ.get("DIFFUSION_KEEP_CLUSTER") != "1":
        stop_cluster(TEST_CLUSTER)


def _begin(cluster: Cluster, items: list[pytest.Item]) -> None:
    wanted = [(_namespace_of(item), mark.args) for item in items for mark in item.iter_markers(AHEAD)]
    if any(SERVED in getattr(item, "fixturenames", ()) for item in items):
        wanted.insert(0, (SERVED, (SERVED_MANIFEST,)))
    for namespace, documents in wanted:
        restrict(cluster, namespace)
        Room(cluster, namespace).apply(*documents)


def _namespace_of(item: pytest.Item) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", item.name.lower()).strip("-")
    if len(name) > LONGEST_NAMESPACE:
        # Cases of one test differ at the end: each has its own, for the one before may still be going.
        digest = hashlib.sha256(name.encode()).hexdigest()[:6]
        name = f"{name[: LONGEST_NAMESPACE - 7].strip('-')}-{digest}"
    return name


@pytest.fixture
def room(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Room]:
    """A namespace for one test, with what the test wanted ahead; when the test ends, it goes."""
    yield from _namespace(cluster, _namespace_of(request.node))


@pytest.fixture(scope="session")
def served(cluster: Cluster) -> Iterator[Room]:
    """A namespace with one deployment, named SERVED, that is Ready; tests leave it as they found it."""
    for room in _namespace(cluster, SERVED):
        room.await_ready(SERVED)
        yield room


@pytest.fixture(scope="session")
def quiet(served: Room) -> datetime:
    """Since when all engines are Ready and nothing changes; who asks for it leaves that so."""

    def all_ready(state: State) -> bool:
        return all(is_true(dd, "Ready") for dd in state.values())

    await_state(served.cluster, EVERYWHERE, "dd", all_ready, "all are Ready", deadline_seconds=READY_SECONDS)
    return datetime.now(UTC)


@pytest.fixture
def alone(served: Room, request: pytest.FixtureRequest) -> None:
    """No engines are left but that of `served` and those of the test itself."""
    own = {served.namespace, _namespace_of(request.node)}

    def gone(state: State) -> bool:
        return {pod["metadata"]["namespace"] for pod in state.values()} <= own

    what = "the engines of earlier tests are gone"
    await_state(served.cluster, EVERYWHERE, "pods", gone, what, selector=DEPLOYMENT_LABEL)


@pytest.fixture
def gpus(cluster: Cluster) -> Iterator[None]:
    """For tests that change the number of GPUs of the node: it is GPUS again afterwards."""
    yield
    set_gpus(cluster, GPUS)


def _namespace(cluster: Cluster, name: str) -> Iterator[Room]:
    restrict(cluster, name)
    room = Room(cluster, name)
    try:
        yield room
    finally:
        # Its pods drain while the next tests run; those that count GPUs ask for `alone`.
        room.kubectl("delete", "dd", "--all", "--timeout=60s")
        cluster.kubectl("delete", "namespace", name, "--wait=false")
