"""The node agent on a real kubelet: it reports, its report shapes plans, and it can write nothing else.

The NVIDIA library is the tests' own, brought in by a ConfigMap, since no node here has a GPU. The kubelet,
its PodResources socket, the tokens and the admission policy are real.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from builders.fake_nvml import GIB, LIBRARY, STATE_VARIABLE, FakeGpu, build_fake_nvml, fake_nvml_state
from cluster.conftest import GPUS
from cluster.room import Room, manifest, pod_is_ready
from cluster.watching import Object, State, await_state
from localcluster.gpunodes import H100, set_gpus
from localcluster.install import CHART, helm
from localcluster.kindcluster import Cluster
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE
from localcluster.shell import CommandError, run

AGENT = "diffusion-operator-node-agent"
TOTAL = H100.memory_mib * 2**20
STATE_FILE = "/tmp/nvml-state"
SHOWN = 8


class Agents:
    """The agent on the cluster's real node, and the GPUs that its driver shows."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.node = cluster.folder.node

    def pod(self, holds: Any, what: str) -> Object:
        """Watch the agent's pods until one of them is as wanted."""

        def found(state: State) -> bool:
            return any(holds(pod) for pod in state.values())

        state = await_state(self.cluster, AGENT, "pods", found, what, deadline_seconds=120)
        return next(pod for pod in state.values() if holds(pod))

    def show(self, used_gib: float) -> None:
        """Eight GPUs with so much in use on each."""
        gpus = [
            FakeGpu(f"GPU-{i}", int(used_gib * GIB), TOTAL, product="NVIDIA H100 80GB HBM3")
            for i in range(SHOWN)
        ]
        pod = self.pod(runs_patched, "the agent runs with the fake library")["metadata"]["name"]
        words = ["exec", "-i", pod, "-n", AGENT, "--", "sh", "-c", f"cat > {STATE_FILE}.new"]
        self.cluster.kubectl(*words, stdin=fake_nvml_state(gpus, nvlinks=[(0, 1)]))
        self.cluster.kubectl("exec", pod, "-n", AGENT, "--", "mv", f"{STATE_FILE}.new", STATE_FILE)

    def await_report(self, foreign_gib: float) -> Object:
        """The report with so much foreign memory on each GPU, from an agent that is Ready."""

        def holds(state: State) -> bool:
            gpus = state.get(self.node, {}).get("status", {}).get("gpus", [])
            return bool(gpus) and all(gpu["foreignBytes"] == int(foreign_gib * GIB) for gpu in gpus)

        state = await_state(self.cluster, AGENT, "gpunodes", holds, f"{foreign_gib} GiB are foreign")
        self.pod(pod_is_ready, "the agent is Ready")
        return state[self.node]

    def write_as(self, folder: Path, report: Object, *binding: str) -> str:
        """Apply a GPUNode with a token of the agent's account, bound as asked."""
        token = self.cluster.kubectl("create", "token", AGENT, "-n", AGENT, *binding).strip()
        config = yaml.safe_load(self.cluster.folder.kubeconfig.read_text())
        config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
        file = folder / "kubeconfig"
        file.write_text(yaml.safe_dump(config))
        words: list[str | Path] = [
            self.cluster.kubectl_program,
            "--kubeconfig",
            file,
            "apply",
            "--server-side",
        ]
        # Without validation: the account may not read the schema, only write its report.
        words += ["--force-conflicts", "--validate=false", "-f", "-"]
        return run(words, stdin=json.dumps(report), timeout_seconds=60)


def runs_patched(pod: Object) -> bool:
    """The agent with the fake library, up though perhaps not Ready."""
    names = {entry["name"] for entry in pod["spec"]["containers"][0]["env"]}
    statuses = pod.get("status", {}).get("containerStatuses", [])
    leaving = "deletionTimestamp" in pod["metadata"]
    return STATE_VARIABLE in names and not leaving and any("running" in s["state"] for s in statuses)


def ended_with(pod: Object) -> str:
    """What the agent's container said when it ended, empty while it never did."""
    for status in pod.get("status", {}).get("containerStatuses", []):
        for state in (status.get("state", {}), status.get("lastState", {})):
            if "terminated" in state:
                return str(state["terminated"].get("message", ""))
    return ""


def switch(cluster: Cluster, *settings: str) -> None:
    """Change values of the installed release; the agent is not waited for, it has no library yet."""
    flags = [word for setting in settings for word in ("--set", setting)]
    words = ["upgrade", HELM_RELEASE, str(CHART), "--namespace", OPERATOR_NAMESPACE, "--reuse-values"]
    helm(cluster, *words, *flags)


@pytest.fixture(scope="module")
def agents(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agents]:
    """The chart with the node agent, and the fake library in its pod; without it again afterwards."""
    library = build_fake_nvml(tmp_path_factory.mktemp("nvml"))
    set_gpus(cluster, SHOWN)
    try:
        switch(cluster, "nodeAgent.enabled=true", "nodeAgent.runtimeClassName=")
        here = Agents(cluster)
        said = ended_with(here.pod(ended_with, "the agent ends without the NVIDIA library"))
        assert "libnvidia-ml.so.1 is not in this container" in said
        binary = base64.b64encode(library.read_bytes()).decode()
        metadata = {"name": "fake-nvml", "namespace": AGENT}
        config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        cluster.apply(config_map | {"binaryData": {LIBRARY: binary}})
        container = {
            "name": "node-agent",
            "env": [
                {"name": "LD_LIBRARY_PATH", "value": "/nvml"},
                {"name": STATE_VARIABLE, "value": STATE_FILE},
            ],
            "volumeMounts": [{"name": "nvml", "mountPath": "/nvml", "readOnly": True}],
        }
        volumes = [{"name": "nvml", "configMap": {"name": "fake-nvml"}}]
        patch = {"spec": {"template": {"spec": {"containers": [container], "volumes": volumes}}}}
        cluster.kubectl("patch", "daemonset", AGENT, "-n", AGENT, "-p", json.dumps(patch))
        yield here
    finally:
        switch(cluster, "nodeAgent.enabled=false")
        cluster.kubectl("delete", "gpunodes", "--all")
        set_gpus(cluster, GPUS)


def plan_of(room: Room, name: str) -> Object:
    """The plan that a new, suspended Z-Image gets on the real node; it needs little memory of the host."""
    source = {"source": {"huggingFace": {"repo": "Tongyi-MAI/Z-Image-Turbo"}}}
    room.apply(manifest(name, model=source, performance={"mode": "auto"}, suspend=True))
    dd = room.await_dd(name, lambda dd: "plan" in dd.get("status", {}), "has a plan")
    plan: Object = dd["status"]["plan"]
    return plan


def test_a_busy_gpu_is_reported_and_planned_as_a_small_one(agents: Agents, room: Room) -> None:
    agents.show(used_gib=45)
    report = agents.await_report(foreign_gib=45)
    node = json.loads(agents.cluster.kubectl("get", "node", agents.node, "-o", "json"))
    (owner,) = report["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Node", node["metadata"]["uid"])
    status = report["status"]
    assert (status["gpuCount"], status["freeGPUs"], status["foreign"]) == (8, 8, "360.0GiB")
    assert status["hostMemory"]["freeBytes"] > 0
    assert status["gpus"][0]["nvlinkPeers"] == [1]
    header, row = agents.cluster.kubectl("get", "gpunodes").splitlines()
    assert header.split() == ["NAME", "GPUS", "FREE", "FOREIGN", "AGE"]
    assert row.split()[:4] == [agents.node, "8", "8", "360.0GiB"]

    busy = plan_of(room, "busy")
    agents.show(used_gib=0)
    agents.await_report(foreign_gib=0)
    idle = plan_of(room, "idle")
    assert (busy["freePerGPU"], idle["freePerGPU"]) == ("34.0GiB", "79.0GiB")


def test_a_report_of_an_agent_that_is_not_ready_does_not_count(agents: Agents, room: Room) -> None:
    agents.show(used_gib=45)
    agents.await_report(foreign_gib=45)
    pod = agents.pod(runs_patched, "the agent runs")["metadata"]["name"]
    agents.cluster.kubectl("exec", pod, "-n", AGENT, "--", "rm", STATE_FILE)
    agents.pod(lambda pod: runs_patched(pod) and not pod_is_ready(pod), "the agent is not Ready")
    report = json.loads(agents.cluster.kubectl("get", "gpunode", agents.node, "-o", "json"))
    assert report["status"]["foreign"] == "360.0GiB"
    assert plan_of(room, "by-labels")["freePerGPU"] == "79.2GiB"


def test_an_agent_may_write_only_the_report_of_its_own_node(agents: Agents, tmp_path: Path) -> None:
    agents.show(used_gib=0)
    own = agents.await_report(foreign_gib=0)
    fresh = {"apiVersion": own["apiVersion"], "kind": own["kind"], "status": own["status"]}
    other = fresh | {"metadata": {"name": "fake-h200"}}
    pod = agents.pod(pod_is_ready, "the agent is Ready")["metadata"]["name"]
    bound_here = ("--bound-object-kind=Pod", f"--bound-object-name={pod}")
    bound_there = ("--bound-object-kind=Node", "--bound-object-name=fake-h200")

    only_own = "a node agent may write only the GPUNode of its own node"
    with pytest.raises(CommandError, match=f"{only_own}, {agents.node}, not fake-h200"):
        agents.write_as(tmp_path, other, *bound_here)
    with pytest.raises(CommandError, match=f"{only_own}, fake-h200, not {agents.node}"):
        agents.write_as(tmp_path, fresh | {"metadata": {"name": agents.node}}, *bound_there)
    with pytest.raises(CommandError, match="the token of this node agent names no node"):
        agents.write_as(tmp_path, other)
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": "fake-h200", "uid": "x"}]
    stolen = other | {"metadata": {"name": "fake-h200", "ownerReferences": owners}}
    with pytest.raises(CommandError, match="the only owner of a GPUNode is its Node"):
        agents.write_as(tmp_path, stolen, *bound_there)
    assert "fake-h200" in agents.write_as(tmp_path, other, *bound_there)


def test_its_account_can_do_nothing_else(agents: Agents) -> None:
    account = f"--as=system:serviceaccount:{AGENT}:{AGENT}"
    for words in (("list", "pods"), ("get", "secrets"), ("delete", "gpunodes"), ("list", "nodes")):
        with pytest.raises(CommandError):
            agents.cluster.kubectl("auth", "can-i", *words, "--all-namespaces", account)
