"""GPU nodes without GPUs: the kind node says it has eight H100, and KWOK adds nodes of other products.

Counting is real (the scheduler enforces the numbers); arithmetic is not, which the demo's manifests say
openly with ``performance.device: cpu``. The KWOK nodes carry a taint, so that only what tolerates it is
placed there.
"""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from localcluster import gotools
from localcluster.kindcluster import Cluster
from localcluster.progress import step
from localcluster.settings import KWOK_VERSION, ClusterFolder
from localcluster.shell import LocalClusterError, run

GPU_RESOURCE = "nvidia.com/gpu"
FAKE_TAINT = "kwok.x-k8s.io/node"
STAGES = (
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    *(f"pod/fast/pod-{name}" for name in ("ready", "complete", "delete")),
)


@dataclass(frozen=True)
class GPUProduct:
    """A GPU as GPU feature discovery labels it; memory in MiB, as its label counts."""

    product: str
    memory_mib: int
    family: str
    compute: tuple[int, int]


H100 = GPUProduct("NVIDIA-H100-80GB-HBM3", 81559, "hopper", (9, 0))
H200 = GPUProduct("NVIDIA-H200", 143771, "hopper", (9, 0))
A100 = GPUProduct("NVIDIA-A100-SXM4-80GB", 81920, "ampere", (8, 0))
L40S = GPUProduct("NVIDIA-L40S", 46068, "ada-lovelace", (8, 9))
FAKE_NODES = {"fake-h200": (H200, 8), "fake-a100": (A100, 8), "fake-l40s": (L40S, 4)}


def gpu_labels(gpu: GPUProduct, count: int) -> dict[str, str]:
    """The node labels that GPU feature discovery would set."""
    values = {
        "product": gpu.product,
        "memory": str(gpu.memory_mib),
        "count": str(count),
        "family": gpu.family,
        "compute.major": str(gpu.compute[0]),
        "compute.minor": str(gpu.compute[1]),
        "replicas": "1",
        "sharing-strategy": "none",
    }
    labels = {f"{GPU_RESOURCE}.{name}": value for name, value in values.items()}
    return {
        **labels,
        "nvidia.com/mig.capable": "true",
        "nvidia.com/mig.strategy": "none",
        f"{GPU_RESOURCE}.present": "true",
    }


def set_gpus(cluster: Cluster, count: int, gpu: GPUProduct = H100) -> None:
    """Give the real node so many GPUs: labels first, then capacity, so that no GPU is ever seen without its
    product.
    """
    node = cluster.folder.node
    labels = gpu_labels(gpu, count)
    cluster.kubectl(
        "label", "--overwrite", "node", node, *(f"{name}={value}" for name, value in labels.items())
    )
    path = f"/{GPU_RESOURCE.replace('/', '~1')}"
    patch = [
        {"op": "add", "path": f"/status/{kind}{path}", "value": str(count)}
        for kind in ("capacity", "allocatable")
    ]
    cluster.kubectl("patch", "node", node, "--subresource=status", "--type=json", "-p", json.dumps(patch))


def fake_node(name: str, gpu: GPUProduct, count: int) -> dict[str, Any]:
    """A KWOK node with so many GPUs of a product, tainted."""
    resources = {"cpu": "64", "memory": "512Gi", "pods": "110", GPU_RESOURCE: str(count)}
    own = {
        "type": "kwok",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake", "node.alpha.kubernetes.io/ttl": "0"},
            "labels": {**own, **gpu_labels(gpu, count)},
        },
        "spec": {"taints": [{"key": FAKE_TAINT, "value": "fake", "effect": "NoSchedule"}]},
        "status": {"allocatable": resources, "capacity": resources},
    }


def bring_nodes(
    cluster: Cluster, namespace: str, labels: dict[str, str], gpu: GPUProduct, count: int
) -> list[str]:
    """What a cluster autoscaler does, once: a KWOK node for each pod of the namespace that waits for these
    labels.
    """
    pods = json.loads(cluster.kubectl("-n", namespace, "get", "pods", "-o", "json"))["items"]
    waiting = [pod for pod in pods if _waits_for(pod, labels)]
    names = [f"brought-{pod['metadata']['uid'][:8]}" for pod in waiting]
    for name in names:
        node = fake_node(name, gpu, count)
        node["metadata"]["labels"] |= labels
        cluster.apply(node)
    return names


def _waits_for(pod: dict[str, Any], labels: dict[str, str]) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    unplaced = any(c["type"] == "PodScheduled" and c["status"] == "False" for c in conditions)
    return unplaced and labels.items() <= pod["spec"].get("nodeSelector", {}).items()


def start_gpu_nodes(cluster: Cluster) -> None:
    """Eight H100 on the real node, and the KWOK nodes beside it, Ready."""
    with step("GPU nodes: 8 × H100 on the real node; KWOK nodes with H200, A100 and L40S"):
        set_gpus(cluster, 8)
        start_kwok(cluster.folder)
        cluster.apply(*(fake_node(name, gpu, count) for name, (gpu, count) in FAKE_NODES.items()))
        names = [f"node/{name}" for name in FAKE_NODES]
        cluster.kubectl("wait", "--for=condition=Ready", *names, "--timeout=90s")


def start_kwok(folder: ClusterFolder, lease_s: int = 40) -> None:
    """Run KWOK against the cluster as a process of this machine, once; its pid is kept in the cluster's
    folder. It renews the Lease of each node every quarter of `lease_s`.
    """
    if kwok_pid(folder) is not None:
        return
    command = [*kwok(folder.root, folder.kubeconfig), f"--node-lease-duration-seconds={lease_s}"]
    # A session of its own, so that Ctrl+C here does not end it, and no child of ours, so that nobody waits
    # for it.
    script = 'log=$1; shift; setsid "$@" </dev/null >"$log" 2>&1 & echo $!'
    pid = run(["sh", "-c", script, "sh", folder.root / "kwok.log", *command])
    _pid_file(folder).write_text(pid.strip())


def kwok(folder: Path, kubeconfig: Path) -> list[str | Path]:
    """The command that runs it; its stages are written to the folder."""
    module = gotools.module_folder("sigs.k8s.io/kwok", KWOK_VERSION) / "kustomize/stage"
    stages = folder / "kwok-stages.yaml"
    stages.write_text("\n---\n".join((module / f"{name}.yaml").read_text() for name in STAGES))
    flags = ["--manage-all-nodes=false", "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake"]
    return [gotools.tool("kwok"), "--kubeconfig", kubeconfig, "--config", stages, *flags]


def kwok_pid(folder: ClusterFolder) -> int | None:
    """The pid of this cluster's KWOK while it runs; a pid that now belongs to another program does not
    count.
    """
    if not _pid_file(folder).exists():
        return None
    pid = int(_pid_file(folder).read_text())
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    return pid if str(folder.kubeconfig).encode() in words else None


def stop_kwok(folder: ClusterFolder) -> None:
    """Returns once it has ended, so that the next one is not taken for running already."""
    pid = kwok_pid(folder)
    if pid is not None:
        os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + 20
    while kwok_pid(folder) is not None:
        if time.monotonic() > deadline_s:
            raise LocalClusterError(f"KWOK (pid {pid}) does not end")
        time.sleep(0.1)


def _pid_file(folder: ClusterFolder) -> Path:
    return folder.root / "kwok.pid"
