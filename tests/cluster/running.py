"""A control plane on loopback on which pods run: the real scheduler places them, KWOK says that they run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.controlplane import ControlPlane, control_plane, program
from localcluster import gotools
from localcluster.gpunodes import kwok

CONTROLLERS = ("garbage-collector-controller", "deployment-controller", "replicaset-controller")
PODS_NETWORK = "127.1.0.1/16"
"""Nobody listens there, so that whoever asks an engine that is none is refused at once."""


@contextmanager
def running_plane(folder: Path) -> Iterator[ControlPlane]:
    """Its nodes are those that carry KWOK's annotation."""
    with control_plane(folder, *CONTROLLERS) as plane:
        kubeconfig = folder / "kubeconfig"
        scheduler: list[str | Path] = [gotools.kubernetes() / "kube-scheduler", f"--kubeconfig={kubeconfig}"]
        flags = ["--leader-elect=false", "--secure-port=0"]
        nodes = [*kwok(folder, kubeconfig), f"--cidr={PODS_NETWORK}"]
        with program([*scheduler, *flags], folder), program(nodes, folder):
            yield plane
