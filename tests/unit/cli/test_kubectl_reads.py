"""The plugin reads through the user's kubectl, passes his flags on, and explains what kubectl refuses."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

import pytest

from diffusion_operator.cli.errors import ClusterUnreachable, NoSuchDeployment
from diffusion_operator.cli.kubectl import Kubectl, run_command
from diffusion_operator.cli.snapshot import from_cluster
from unit.cli.dds import deployment


class Recorder:
    """Stands in for kubectl: one answer, every command kept."""

    def __init__(self, stdout: str = "", stderr: str = "", returncode: int = 0) -> None:
        self.commands: list[list[str]] = []
        self._answer = (returncode, stdout, stderr)

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        self.commands.append(list(command))
        code, stdout, stderr = self._answer
        return subprocess.CompletedProcess(list(command), code, stdout, stderr)


@pytest.fixture(autouse=True)
def _plain_kubectl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBECTL", raising=False)


def test_context_kubeconfig_and_namespace_are_passed_on() -> None:
    recorder = Recorder(json.dumps(deployment()))
    kubectl = Kubectl(context="prod", kubeconfig="/k", run=recorder)
    assert kubectl.deployment("qwen", "pictures") == deployment()
    assert recorder.commands == [
        [
            *("kubectl", "--context", "prod", "--kubeconfig", "/k", "get"),
            *("diffusiondeployments.diffusion-operator.io", "qwen", "--namespace", "pictures", "-o", "json"),
        ]
    ]


def test_without_a_namespace_kubectl_chooses() -> None:
    recorder = Recorder(json.dumps(deployment()))
    Kubectl(run=recorder).deployment("qwen", None)
    assert "--namespace" not in recorder.commands[0]


def test_only_reading_verbs_are_used() -> None:
    recorder = Recorder(json.dumps({"items": []}))
    kubectl = Kubectl(run=recorder)
    kubectl.nodes()
    kubectl.pods()
    kubectl.managed_deployments()
    kubectl.plan_config_maps("qwen", "pictures")
    kubectl.replica_sets_of("qwen", "pictures")
    kubectl.pods_of("qwen", "pictures")
    kubectl.diffusion_deployments()
    assert {command[1] for command in recorder.commands} == {"get"}


def test_another_kubectl_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECTL", "/opt/kubectl")
    recorder = Recorder(json.dumps({"items": []}))
    Kubectl(run=recorder).nodes()
    assert recorder.commands[0][0] == "/opt/kubectl"


def test_a_missing_object_is_told_from_a_broken_cluster() -> None:
    missing = 'Error from server (NotFound): diffusiondeployments.diffusion-operator.io "x" not found'
    with pytest.raises(NoSuchDeployment, match=r'^diffusiondeployments.diffusion-operator.io "x" not found$'):
        Kubectl(run=Recorder(stderr=missing, returncode=1)).deployment("x", None)
    with pytest.raises(ClusterUnreachable, match="connection refused"):
        Kubectl(run=Recorder(stderr="connection refused", returncode=1)).deployment("x", None)


def test_a_cluster_without_the_kind_asks_for_the_chart() -> None:
    words = 'error: the server doesn\'t have a resource type "diffusiondeployments"'
    with pytest.raises(NoSuchDeployment, match="install the operator's chart first"):
        Kubectl(run=Recorder(stderr=words, returncode=1)).deployment("x", None)


def test_an_object_that_may_be_missing_is_none() -> None:
    missing = "Error from server (NotFound): nothing"
    assert Kubectl(run=Recorder(stderr=missing, returncode=1)).find_deployment("x", "default") is None


@pytest.mark.parametrize(("stdout", "namespace"), [("pictures", "pictures"), ("", "default")])
def test_the_namespace_of_the_context(stdout: str, namespace: str) -> None:
    assert Kubectl(run=Recorder(stdout)).namespace() == namespace


def test_no_kubectl_at_all_is_one_sentence() -> None:
    with pytest.raises(ClusterUnreachable, match="was not found on PATH"):
        run_command(["/nowhere/kubectl", "get", "nodes"])


def test_what_the_user_may_not_read_is_told_and_the_rest_is_read() -> None:
    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        if "persistentvolumes" in command:
            words = 'Error from server (Forbidden): persistentvolumes is forbidden: User "jo" cannot list'
            return subprocess.CompletedProcess(list(command), 1, "", words)
        return subprocess.CompletedProcess(list(command), 0, json.dumps({"items": []}), "")

    snapshot = from_cluster(Kubectl(run=run), "qwen", "pictures")
    assert snapshot.unread == ('persistentvolumes is forbidden: User "jo" cannot list',)
    assert (snapshot.claims, snapshot.volumes, snapshot.quotas) == ([], [], [])
