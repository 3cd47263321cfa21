"""The commands behind the Makefile's targets, each a short story over the other modules."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from localcluster import gotools, kindcluster
from localcluster.cache import locked, require_disk
from localcluster.component_images import LABEL
from localcluster.demo import MANIFEST, plugin_environment, run_demo
from localcluster.gpunodes import start_gpu_nodes, stop_kwok
from localcluster.images import ENGINE, OPERATOR, ProductImages, product_images
from localcluster.install import CHART, helm, install, load_into_running_node
from localcluster.kindcluster import Cluster
from localcluster.nodeimage import LOCAL_REPOSITORY, node_image
from localcluster.progress import say, step
from localcluster.provider import choose
from localcluster.roots import BASE_REPOSITORY
from localcluster.settings import (
    DEMO_CLUSTER,
    HELM_RELEASE,
    OPERATOR_NAMESPACE,
    REPOSITORY,
    TEST_CLUSTER,
    ClusterFolder,
    cache_folder,
)
from localcluster.shell import run
from localcluster.store import add_images, image_store

OURS = (
    ENGINE.repository,
    OPERATOR.repository,
    LOCAL_REPOSITORY,
    BASE_REPOSITORY,
    "localhost/diffusion-proxy-base",
    "localhost/diffusion-trial",
)
TOOLS_OF_TESTS = ("helm", "glua", "promtool")


def start_cluster(folder: ClusterFolder) -> Cluster:
    """A running cluster with GPU nodes and no product on it yet."""
    require_disk(4, "starting a cluster")
    with locked(folder.name):
        provider = choose()
        node = node_image(provider)
        cluster = kindcluster.start(provider, node, image_store(provider, node), folder)
        start_gpu_nodes(cluster)
    return cluster


def start_cluster_with_images(folder: ClusterFolder) -> tuple[Cluster, ProductImages]:
    """The same, with both product images in its node; they go into the store first, so that a new node
    starts with them.
    """
    provider = choose()
    node = node_image(provider)
    images = product_images(provider, node)
    add_images(provider, node, image_store(provider, node), [images.engine, images.operator])
    cluster = start_cluster(folder)
    load_into_running_node(cluster, images)
    return cluster, images


def prepare_images() -> ProductImages:
    """Everything that takes long: node image, product images, the image store with all of them in it."""
    provider = choose()
    node = node_image(provider)
    images = product_images(provider, node)
    add_images(provider, node, image_store(provider, node), [images.engine, images.operator])
    return images


def stop_cluster(folder: ClusterFolder) -> None:
    """Delete the cluster and end its KWOK; images and tools stay in the cache."""
    with locked(folder.name):
        provider = choose()
        stop_kwok(folder)
        kindcluster.delete(provider, folder, node_image(provider) if folder.root.exists() else None)


def up(folder: ClusterFolder) -> None:
    cluster = start_cluster(folder)
    say(f"the cluster {folder.name} is ready:\n\n{cluster.kubectl('get', 'nodes')}")
    _say_how_to_use(cluster)


def down(folder: ClusterFolder) -> None:
    stop_cluster(folder)
    say(f"the cluster {folder.name} is gone")


def build_images(_: ClusterFolder) -> None:
    provider = choose()
    images = product_images(provider, node_image(provider))
    say(f"operator image: {images.operator}")
    say(f"engine image:   {images.engine}")
    say(f"{provider.name} holds them; how to push them: docs/how-to/your-own-cluster.md")


def demo(folder: ClusterFolder) -> None:
    cluster, images = start_cluster_with_images(folder)
    install(cluster, images)
    picture = run_demo(cluster)
    say(f"the picture is at {picture.relative_to(REPOSITORY)} ({picture.stat().st_size} bytes)")
    _say_how_to_use(cluster, plugin_environment() / "bin")
    say("look on:   kubectl diffusion explain demo;  kubectl describe dd demo;  kubectl explain dd.spec")
    say("clean up:  `make demo-down` removes the product, `make cluster-down` the whole cluster")


def demo_down(folder: ClusterFolder) -> None:
    provider = choose()
    cluster = Cluster(provider, folder, kindcluster.kubectl_program(provider, node_image(provider)))
    if not kindcluster.answers(cluster):
        say(f"there is no running cluster {folder.name}; nothing to remove")
        return
    with step("removing the demo and the product"):
        cluster.kubectl("delete", "-f", MANIFEST, "--ignore-not-found", "--wait")
        helm(
            cluster,
            "uninstall",
            HELM_RELEASE,
            "--namespace",
            OPERATOR_NAMESPACE,
            "--ignore-not-found",
            "--wait",
        )
        cluster.kubectl("delete", "namespace", OPERATOR_NAMESPACE, "--ignore-not-found")
    say("the custom resource definition stays, as always with Helm; `make cluster-down` removes everything")


def clean(_: ClusterFolder) -> None:
    for folder in (DEMO_CLUSTER, TEST_CLUSTER):
        stop_cluster(folder)
    provider = choose()
    with step("removing images and the cache folder"):
        for repository in OURS:
            for reference in provider.images(repository):
                provider.call("image", "rm", "-f", reference)
        labelled = provider.call("image", "ls", "-q", "--filter", f"label={LABEL}").split()
        if labelled:
            provider.call("image", "rm", "-f", *labelled)
        shutil.rmtree(cache_folder())


def prepare(folder: ClusterFolder) -> None:
    """What the cluster tests need and pytest would build without showing any progress."""
    prepare_images()
    unit_tools(folder)


def unit_tools(_: ClusterFolder) -> None:
    """Build the programs that unit tests run, where they are missing."""
    for name in TOOLS_OF_TESTS:
        gotools.tool(name)
    gotools.kstatus()


def lint_chart(_: ClusterFolder) -> None:
    """``helm lint --strict`` with the two values that the chart insists on."""
    values = [
        "--set",
        "operator.image.repository=localhost/o",
        "--set",
        "engine.image.repository=localhost/e",
    ]
    say(run([gotools.tool("helm"), "lint", "--strict", CHART, *values]).strip().splitlines()[-1])


def _say_how_to_use(cluster: Cluster, *more_programs: Path) -> None:
    folders = ":".join(str(folder) for folder in (cluster.kubectl_program.parent, *more_programs))
    say("use it:")
    say(f"  export KUBECONFIG={cluster.folder.kubeconfig}")
    say(f"  export PATH={folders}:$PATH")


COMMANDS: dict[str, Callable[[ClusterFolder], None]] = {
    "up": up,
    "down": down,
    "images": build_images,
    "demo": demo,
    "demo-down": demo_down,
    "clean": clean,
    "prepare": prepare,
    "unit-tools": unit_tools,
    "lint-chart": lint_chart,
}
