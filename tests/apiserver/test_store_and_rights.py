"""F8 and F9 shortened, with a real API server: away, its store restored, rights and definition gone.

Nothing here has a node that runs pods; the whole faults, with serving engines, are tests/full/cluster_faults.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator

import pytest

from cluster.controlplane import OPERATOR_USER, ControlPlane, control_plane
from cluster.definitions import OURS, install
from cluster.hostoperator import (
    HostOperator,
    apply,
    children,
    furnish,
    kept_running,
    looked_at,
    operators_kubeconfig,
    rights,
    wish,
)
from cluster.watching import until

CONVERGED_S = 30.0
NAMED_S = 30.0
CRD = "diffusiondeployments.diffusion-operator.io"


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("plane"), "garbage-collector-controller") as running:
        furnish(running)
        yield running


@pytest.fixture(scope="module")
def one_operator(plane: ControlPlane) -> Iterator[HostOperator]:
    with kept_running(operators_kubeconfig(plane), plane.folder) as running:
        yield running
    assert not running.said("bug in the operator")


@pytest.fixture
def operator(plane: ControlPlane, one_operator: HostOperator) -> HostOperator:
    """It leads, and one deployment is there and no other; what it said before does not count."""
    until(lambda: one_operator.metric("leader") == 1.0, "an operator that leads", 60)
    plane.kubectl("delete", "dd", "--all", "-n", "default")
    until(lambda: children(plane) == {}, "nothing of the test before", 30)
    apply(plane, wish("kept"))
    until(lambda: looked_at(plane) == {"kept"}, "a deployment before the fault", 30)
    one_operator.listen_from_here()
    return one_operator


def test_an_api_server_that_was_away_is_served_again(plane: ControlPlane, operator: HostOperator) -> None:
    plane.server.stop()
    until(lambda: operator.said("ending at once"), "a leader that cannot renew ends", 30)
    plane.start_server()
    apply(plane, wish("new"))
    took_s = until(lambda: "new" in looked_at(plane), "a new deployment after the outage", CONVERGED_S)
    print(f"{took_s:.1f} s after the API server was back; started {operator.starts_heard} times")


def test_a_restored_store_is_noticed_and_everything_is_listed_anew(
    plane: ControlPlane, operator: HostOperator
) -> None:
    plane.stop_all()
    shutil.copytree(plane.folder / "etcd", plane.folder / "backup")
    plane.start_all()
    until(lambda: operator.metric("leader") == 1.0, "an operator that leads again", CONVERGED_S)
    apply(plane, wish("lost"), wish("kept", replicas=3))
    until(lambda: children(plane) == {"kept": 3, "lost": 1}, "what the backup does not know", 30)
    metadata = [{"name": f"more-{number}", "namespace": "default"} for number in range(100)]
    # Further from the backup than the restored store will be soon.
    apply(plane, *({"apiVersion": "v1", "kind": "ConfigMap", "metadata": one} for one in metadata))
    operator.listen_from_here()
    with kept_running(operators_kubeconfig(plane), plane.folder, leads=False) as standby:
        plane.stop_all()
        shutil.rmtree(plane.folder / "etcd")
        shutil.copytree(plane.folder / "backup", plane.folder / "etcd")
        plane.start_all()
        # The leader lost its Lease meanwhile; the standby would go on with a mirror of the lost time.
        until(lambda: standby.said("the store of the API server went back"), "a standby that notices", 20)
    apply(plane, wish("new"), wish("kept", replicas=2))
    wanted = {"kept": 2, "new": 1}
    took_s = until(
        lambda: children(plane) == wanted and looked_at(plane) == wanted.keys(),
        "the restored deployment and a new one",
        CONVERGED_S,
    )
    print(f"{took_s:.1f} s after the restored store was up; started {operator.starts_heard} times")


def test_rights_that_are_gone_are_named_and_waited_for(plane: ControlPlane, operator: HostOperator) -> None:
    plane.kubectl("delete", "clusterrolebinding", OPERATOR_USER)
    apply(plane, wish("new"))
    named_s = until(lambda: operator.said("is forbidden: User"), "the right that is missing", NAMED_S)
    assert operator.metric("leader") == 1.0
    apply(plane, *rights())
    took_s = until(lambda: "new" in looked_at(plane), "the new deployment", CONVERGED_S)
    assert operator.starts_heard == 0
    print(f"named after {named_s:.1f} s, converged {took_s:.1f} s after they were back")


def test_all_rights_gone_is_one_restart_then_patience(plane: ControlPlane, operator: HostOperator) -> None:
    """Without its Lease the leader must end: that is the fence. The next one waits and says for what."""
    plane.kubectl("delete", "clusterrolebinding", OPERATOR_USER)
    plane.kubectl("delete", "rolebinding", OPERATOR_USER, "-n", "default")
    named_s = until(
        lambda: operator.said("its role does not allow:"), "what the role does not allow", NAMED_S
    )
    assert operator.metric("blocked") == 1.0
    apply(plane, wish("new"), *rights())
    took_s = until(lambda: "new" in looked_at(plane), "the new deployment", CONVERGED_S)
    assert operator.starts_heard == 1
    print(f"named after {named_s:.1f} s, converged {took_s:.1f} s after they were back")


def test_a_definition_that_goes_and_comes_back_is_served_again(
    plane: ControlPlane, operator: HostOperator
) -> None:
    plane.kubectl("delete", "crd", CRD)
    words = "is its custom resource definition installed?"
    named_s = until(lambda: operator.said(words), "the definition that is gone", NAMED_S)
    until(lambda: json.loads(plane.kubectl("get", "deploy", "-o", "json"))["items"] == [], "no orphan", 30)
    install(plane.kubectl, OURS)
    apply(plane, wish("kept"))
    took_s = until(lambda: looked_at(plane) == {"kept"}, "the deployment that came back", CONVERGED_S)
    assert children(plane) == {"kept": 1}
    assert operator.starts_heard == 0
    print(f"named after {named_s:.1f} s, converged {took_s:.1f} s after it was back")
