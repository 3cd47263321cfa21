"""Creates, reuses and deletes one kind cluster with an audit log, its nodes started from the image store."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from localcluster import gotools
from localcluster.cache import digest, kept_folder
from localcluster.nodeimage import NodeImage
from localcluster.progress import say, step
from localcluster.provider import Provider, require_modules_folder
from localcluster.settings import ClusterFolder
from localcluster.shell import LocalClusterError, run, succeeds
from localcluster.store import CONTAINERD, copy_for_cluster, in_helper

READY_SECONDS = 180
AUDIT_IN_NODE = "/var/log/kubernetes/audit"
# Every write and who made it, no reads: small enough to keep, and enough to prove that an idle operator
# writes nothing.
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]},
        {"level": "None"},
    ],
}


@dataclass(frozen=True)
class Cluster:
    """A running cluster on this machine."""

    provider: Provider
    folder: ClusterFolder
    kubectl_program: Path

    def kubectl(
        self, *words: str | Path, stdin: str | None = None, timeout_seconds: float | None = 120
    ) -> str:
        """Run kubectl against this cluster and return what it printed."""
        command = [self.kubectl_program, "--kubeconfig", self.folder.kubeconfig, *words]
        return run(command, stdin=stdin, timeout_seconds=timeout_seconds)

    def apply(self, *documents: object) -> None:
        self.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(documents))


def kubectl_program(provider: Provider, node: NodeImage) -> Path:
    """kubectl of the cluster's version: the one built here, or the one inside the published node image."""
    if node.built_here:
        return gotools.kubernetes() / "kubectl"

    def build(folder: Path) -> None:
        words = ("--rm", "-v", f"{folder}:/out", "--entrypoint", "cp", node.reference)
        provider.call("run", *words, "/usr/bin/kubectl", "/out/kubectl")

    return kept_folder("kubectl", digest([node.reference]), build) / "kubectl"


def start(provider: Provider, node: NodeImage, store: Path, folder: ClusterFolder) -> Cluster:
    """The cluster of this folder: the running one if it was made from the same inputs, else a new one."""
    cluster = Cluster(provider, folder, kubectl_program(provider, node))
    config = _config(node, folder)
    inputs = digest([config, node.reference, store.name])
    mark = folder.root / "inputs"
    if mark.exists() and mark.read_text() == inputs and answers(cluster):
        say(f"the cluster {folder.name} runs already and is made of the same things; using it")
        return cluster
    delete(provider, folder, node)
    with step(f"starting the cluster {folder.name}"):
        _prepare(folder, config)
        copy_for_cluster(provider, node, store, folder.containerd)
        require_modules_folder()
        words: list[str | Path] = [
            "create",
            "cluster",
            "--name",
            folder.name,
            "--config",
            folder.root / "kind.yaml",
        ]
        words += ["--kubeconfig", folder.kubeconfig, "--wait", f"{READY_SECONDS}s"]
        run(
            [gotools.tool("kind"), *words],
            env=_kind_environment(provider, folder),
            timeout_seconds=READY_SECONDS + 120,
        )
        cluster.kubectl(
            "wait",
            "--for=condition=Ready",
            f"node/{folder.node}",
            f"--timeout={READY_SECONDS}s",
            timeout_seconds=200,
        )
        mark.write_text(inputs)
    return cluster


def delete(provider: Provider, folder: ClusterFolder, node: NodeImage | None = None) -> None:
    """Remove the cluster's container, volumes, network and files. Nothing there is fine too."""
    env = _kind_environment(provider, folder)
    kind = gotools.tool("kind")
    if folder.name in run([kind, "get", "clusters"], env=env).split():
        with step(f"deleting the cluster {folder.name}"):
            # Nothing in it is worth a graceful end, for which the engine would wait ten seconds.
            succeeds([provider.name, "kill", folder.node], env=provider.env)
            run(
                [kind, "delete", "cluster", "--name", folder.name, "--kubeconfig", folder.kubeconfig], env=env
            )
    if succeeds([provider.name, "network", "inspect", folder.network], env=provider.env):
        provider.call("network", "rm", folder.network)
    if not folder.root.exists():
        return
    if node is not None:
        in_helper(provider, node, f"rm -rf /cache/clusters/{folder.name}")
    shutil.rmtree(folder.root, ignore_errors=True)
    if folder.root.exists():
        raise LocalClusterError(
            f"{folder.root} belongs to root and could not be removed; remove it with sudo"
        )


def answers(cluster: Cluster) -> bool:
    """True when the API server says that it is ready."""
    ready: list[str | Path] = [cluster.kubectl_program, "--kubeconfig", cluster.folder.kubeconfig]
    ready += ["--request-timeout=5s", "get", "--raw", "/readyz"]
    return cluster.folder.kubeconfig.exists() and succeeds(ready, timeout_seconds=15)


def _kind_environment(provider: Provider, folder: ClusterFolder) -> dict[str, str]:
    network = f"KIND_EXPERIMENTAL_{provider.name.upper()}_NETWORK"
    return {**provider.env, "KIND_EXPERIMENTAL_PROVIDER": provider.name, network: folder.network}


def _prepare(folder: ClusterFolder, config: str) -> None:
    folder.audit_log.parent.mkdir(parents=True)
    (folder.root / "audit-policy.yaml").write_text(yaml.safe_dump(AUDIT_POLICY))
    (folder.root / "kind.yaml").write_text(config)


def _config(node: NodeImage, folder: ClusterFolder) -> str:
    """kind's configuration: one node, its containerd root from the store, the audit log readable on this
    machine.
    """
    mounts = [
        {"hostPath": str(folder.containerd), "containerPath": CONTAINERD},
        {
            "hostPath": str(folder.root / "audit-policy.yaml"),
            "containerPath": "/etc/kubernetes/audit-policy.yaml",
        },
        {"hostPath": str(folder.audit_log.parent), "containerPath": AUDIT_IN_NODE},
    ]
    config = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": {"disableDefaultCNI": node.built_here},
        "nodes": [{"role": "control-plane", "image": node.reference, "extraMounts": mounts}],
        "kubeadmConfigPatches": [yaml.safe_dump(_cluster_configuration(node.kubernetes_version))],
    }
    return yaml.safe_dump(config, sort_keys=False)


def _cluster_configuration(version: str) -> dict[str, object]:
    audit = {
        "audit-log-maxsize": "200",
        "audit-log-maxbackup": "1",
        "audit-policy-file": "/etc/kubernetes/audit-policy.yaml",
        "audit-log-path": f"{AUDIT_IN_NODE}/audit.log",
    }
    fast = {"kube-api-qps": "1000", "kube-api-burst": "2000"}
    volumes: list[dict[str, object]] = [
        {
            "name": "audit-policy",
            "hostPath": audit["audit-policy-file"],
            "mountPath": audit["audit-policy-file"],
        },
        {"name": "audit-log", "hostPath": AUDIT_IN_NODE, "mountPath": AUDIT_IN_NODE},
    ]
    volumes[0] |= {"readOnly": True, "pathType": "File"}
    volumes[1] |= {"readOnly": False, "pathType": "DirectoryOrCreate"}
    return {
        "kind": "ClusterConfiguration",
        "apiServer": {"extraArgs": _arguments(version, audit), "extraVolumes": volumes},
        "controllerManager": {"extraArgs": _arguments(version, fast)},
        "scheduler": {"extraArgs": _arguments(version, fast)},
    }


def _arguments(version: str, values: dict[str, str]) -> object:
    """kubeadm v1beta4 (kind uses it from Kubernetes 1.36 on) takes a list where v1beta3 takes a map."""
    minor = int(version.removeprefix("v").split(".")[1])
    return values if minor < 36 else [{"name": name, "value": value} for name, value in values.items()]


def await_objects(cluster: Cluster, what: str, *words: str, deadline_seconds: float = 60) -> None:
    """Wait until ``kubectl get`` with these words lists something; `kubectl wait` fails on objects that do
    not exist yet.
    """
    end = time.monotonic() + deadline_seconds
    while not cluster.kubectl("get", *words, "-o", "name", "--ignore-not-found").strip():
        if time.monotonic() > end:
            raise LocalClusterError(f"waited {deadline_seconds:.0f} s in vain for {what}")
        time.sleep(0.5)
