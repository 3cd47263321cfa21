"""The operator as a process of this machine against any API server: its log, its metrics, its end.

Where a container would be started again by the kubelet, `kept_running` starts the process again and counts.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cluster.controlplane import OPERATOR_TOKEN, OPERATOR_USER, ControlPlane, free_port
from cluster.definitions import OURS, install
from cluster.watching import Object, until
from diffusion_operator.api.rbac import CLUSTER_RULES, OWN_RULES
from localcluster.gpunodes import FAKE_TAINT, H200, fake_node

GROUP = "rbac.authorization.k8s.io"
LEASE_NAMESPACE = "default"


@dataclass
class HostOperator:
    """One replica."""

    kubeconfig: Path
    log: Path
    port: int = field(default_factory=free_port)
    starts: int = 0
    _heard: int = 0
    _starts_heard: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)
    _process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Start it and start it again when it ends, until `stop`."""
        command = [
            sys.executable, "-m", "diffusion_operator.main", "--engine-image", "localhost/engine:none",
            "--kubeconfig", str(self.kubeconfig), "--http-port", str(self.port),
            "--lease-namespace", LEASE_NAMESPACE,
        ]  # fmt: skip
        while not self._stopped.is_set():
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(command, stdout=log, stderr=log)
            self.starts += 1
            self._process.wait()

    def stop(self) -> None:
        self._stopped.set()
        if self._process is not None:
            self._process.terminate()

    def listen_from_here(self) -> None:
        """What it said and how often it was started before does not count any more."""
        self._heard, self._starts_heard = len(self.log.read_text()), self.starts

    @property
    def starts_heard(self) -> int:
        return self.starts - self._starts_heard

    def said(self, words: str) -> bool:
        return words in self.log.read_text()[self._heard :]

    def ready(self) -> bool:
        """Whether it has listed everything."""
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5):
            return True
        return False

    def metric(self, name: str) -> float | None:
        """One gauge; None while nobody answers."""
        with (
            suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as found,
        ):
            value = re.search(rf"^diffusion_operator_{name} (\S+)$", found.read().decode(), re.MULTILINE)
            return float(value[1]) if value else None
        return None


@contextmanager
def kept_running(kubeconfig: Path, folder: Path, *, leads: bool = True) -> Iterator[HostOperator]:
    """One replica, up and leading, or up beside one that leads."""
    operator = HostOperator(kubeconfig, folder / f"{'operator' if leads else 'standby'}.log")
    thread = threading.Thread(target=operator.run)
    thread.start()
    try:
        until(lambda: operator.metric("leader") == float(leads), "an operator that leads or stands by", 60)
        until(operator.ready, "an operator that is ready", 60)
        yield operator
    finally:
        operator.stop()
        thread.join(60)


def operators_kubeconfig(plane: ControlPlane, server: str = "") -> Path:
    """A kubeconfig with the operator's own rights and no more, through `server` when one is given."""
    config = json.loads((plane.folder / "kubeconfig").read_text())
    config["users"][0]["user"]["token"] = OPERATOR_TOKEN
    if server:
        config["clusters"][0]["cluster"] = {"server": server}
    path = plane.folder / "operator-kubeconfig"
    path.write_text(json.dumps(config))
    return path


def rights() -> list[Object]:
    """The chart's rules for the operator's user: a cluster role, a role for the Lease, and their bindings."""
    made: list[Object] = []
    for kind, rules in (("ClusterRole", CLUSTER_RULES), ("Role", OWN_RULES)):
        metadata = {"name": OPERATOR_USER} | ({"namespace": LEASE_NAMESPACE} if kind == "Role" else {})
        role = {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": metadata}
        made.append(role | {"rules": [rule.to_dict() for rule in rules]})
        made.append(
            role
            | {
                "kind": f"{kind}Binding",
                "roleRef": {"apiGroup": GROUP, "kind": kind, "name": OPERATOR_USER},
                "subjects": [{"apiGroup": GROUP, "kind": "User", "name": OPERATOR_USER}],
            }
        )
    return made


def apply(plane: ControlPlane, *documents: Object) -> None:
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
    plane.kubectl("apply", "--server-side", "-f", "-", stdin=listed)


def furnish(plane: ControlPlane) -> None:
    """Definitions, rights and one Ready node of eight GPUs."""
    install(plane.kubectl, OURS)
    node = fake_node("gpus", H200, 8)
    apply(plane, *rights(), node)
    status = {**node["status"], "conditions": [{"type": "Ready", "status": "True"}]}
    patch = json.dumps({"status": status})
    plane.kubectl("patch", "node", "gpus", "--subresource=status", "--type=merge", "-p", patch)
    # A new node is tainted as not ready, which a controller would take away.
    taints = json.dumps({"spec": {"taints": node["spec"]["taints"]}})
    plane.kubectl("patch", "node", "gpus", "--type=merge", "-p", taints)


def wish(name: str, **spec: object) -> Object:
    """A DiffusionDeployment for that node."""
    return {
        "apiVersion": "diffusion-operator.io/v1alpha1",
        "kind": "DiffusionDeployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "model": {"source": {"builtIn": {"name": "demo"}}},
            "performance": {"device": "cpu"},
            "parallelism": {"gpusPerReplica": 1},
            "hardware": {"tolerations": [{"key": FAKE_TAINT, "operator": "Exists"}]},
            **spec,
        },
    }


def children(plane: ControlPlane) -> dict[str, int]:
    """Replicas of each engine Deployment, by the name of its DiffusionDeployment."""
    listed = json.loads(plane.kubectl("get", "deployments", "-n", "default", "-o", "json"))["items"]
    label = "diffusion-operator.io/deployment"
    return {entry["metadata"]["labels"][label]: entry["spec"]["replicas"] for entry in listed}


def looked_at(plane: ControlPlane) -> set[str]:
    """DiffusionDeployments whose status is of their present spec and promises GPUs."""
    listed = json.loads(plane.kubectl("get", "dd", "-n", "default", "-o", "json"))["items"]
    return {
        entry["metadata"]["name"]
        for entry in listed
        if entry.get("status", {}).get("observedGeneration") == entry["metadata"]["generation"]
        and entry["status"].get("placements")
    }
