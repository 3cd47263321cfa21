"""Puts the product on a cluster the way a user does: images, then the Helm chart."""

from __future__ import annotations

from pathlib import Path

from localcluster import gotools
from localcluster.archive import present_images
from localcluster.cache import locked
from localcluster.images import ProductImages
from localcluster.kindcluster import Cluster
from localcluster.progress import step
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE, REPOSITORY
from localcluster.shell import run
from localcluster.store import add_to_containerd

CHART = REPOSITORY / "charts" / "diffusion-operator"
ROLLOUT_SECONDS = 180


def load_into_running_node(cluster: Cluster, images: ProductImages) -> None:
    """Bring both images into the cluster's node unless they are there; a cluster started from the store has
    them already.
    """
    wanted = [images.engine, images.operator]
    with locked(f"{cluster.folder.name}-images"):
        if not set(wanted) <= present_images(cluster.provider, cluster.folder.node):
            add_to_containerd(cluster.provider, cluster.folder.node, cluster.folder.containerd, wanted)


def helm(cluster: Cluster, *words: str, tool: str = "helm", timeout_seconds: float = 300) -> str:
    """Run helm (or ``tool="helm3"``) against this cluster and return what it printed."""
    command: list[str | Path] = [gotools.tool(tool), *words, "--kubeconfig", cluster.folder.kubeconfig]
    return run(command, timeout_seconds=timeout_seconds)


def image_values(images: ProductImages) -> list[str]:
    """Helm's flags for the two images."""
    values = []
    for part, reference in (("operator", images.operator), ("engine", images.engine)):
        repository, tag = reference.rsplit(":", 1)
        values += [
            "--set",
            f"{part}.image.repository={repository}",
            "--set-string",
            f"{part}.image.tag={tag}",
        ]
        values += ["--set", f"{part}.image.pullPolicy=IfNotPresent"]
    return values


def install(cluster: Cluster, images: ProductImages, **more: str) -> str:
    """Install or upgrade the chart, with further values of `engine`, and wait for the operator.

    Returns the chart's notes.
    """
    values = image_values(images)
    for name, value in more.items():
        values += ["--set", f"engine.{name}={value}"]
    with step("helm install of charts/diffusion-operator"):
        words = [
            "upgrade",
            "--install",
            HELM_RELEASE,
            str(CHART),
            "--namespace",
            OPERATOR_NAMESPACE,
            "--create-namespace",
        ]
        notes = helm(cluster, *words, *values, "--wait", f"--timeout={ROLLOUT_SECONDS}s")
        cluster.kubectl(
            "wait",
            "--for=condition=Established",
            "crd/diffusiondeployments.diffusion-operator.io",
            "--timeout=60s",
        )
    return notes
