"""The image store: a containerd root on this machine that every new node starts from, with all images
unpacked in it.

A cluster gets a copy made of hard links (layers and blobs never change in place; only containerd's two
databases are copied for real), so that a 6 GB engine image costs a new cluster seconds and no disk. The
store belongs to one node image; images are added to it when they are missing and the oldest versions leave
it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from localcluster.archive import import_image, present_images, remove_images
from localcluster.cache import digest, kept_folder, locked, require_disk
from localcluster.component_images import component_images
from localcluster.nodeimage import NodeImage
from localcluster.progress import step
from localcluster.provider import Provider
from localcluster.settings import cache_folder
from localcluster.shell import LocalClusterError, succeeds

CONTAINERD = "/var/lib/containerd"
LINK_COPY = (
    "cp -a --link /cache/{source}/. /cache/{target}/ && cd /cache/{target} && "
    'find . -name \'*.db\' | while read -r f; do cp -p "$f" "$f.own" && mv "$f.own" "$f"; done'
)


def image_store(provider: Provider, node: NodeImage) -> Path:
    """The store of this node image, with Kubernetes' own images in it; made when missing."""
    images = component_images(provider) if node.built_here else []
    key = digest([node.reference, *(provider.image_id(image) for image in images)])

    def build(folder: Path) -> None:
        with step("filling the image store with Kubernetes' own images"):
            root = folder / "containerd"
            root.mkdir()
            if not node.built_here:
                words = ("--rm", "-v", f"{root}:/store", "--entrypoint", "cp", node.reference)
                provider.call("run", *words, "-a", f"{CONTAINERD}/.", "/store/")
            with containerd_on(provider, node, root) as container:
                for image in images:
                    import_image(provider, container, root, image)

    return kept_folder("stores", key, build, keep=1)


def add_images(provider: Provider, node: NodeImage, store: Path, references: Sequence[str]) -> None:
    """Bring these images of this machine into the store; of each repository the newest two stay."""
    with locked("store"):
        remembered = store / "images"
        if remembered.exists() and set(references) <= set(remembered.read_text().split()):
            return
        with containerd_on(provider, node, store / "containerd") as container:
            add_to_containerd(provider, container, store / "containerd", references)
            remembered.write_text("\n".join(present_images(provider, container)))


def add_to_containerd(provider: Provider, container: str, root: Path, references: Sequence[str]) -> None:
    """Import what is missing into a running containerd, and remove versions that are older than the newest
    two.
    """
    present = present_images(provider, container)
    for reference in references:
        if reference in present:
            continue
        repository = reference.rsplit(":", 1)[0]
        remove_images(provider, container, repository, {*provider.images(repository)[:2], *references})
        require_disk(14, f"loading {reference} into the cluster")
        with step(f"loading {reference} into the cluster"):
            import_image(provider, container, root, reference)


def copy_for_cluster(provider: Provider, node: NodeImage, store: Path, target: Path) -> None:
    """Make ``target`` a copy of the store that shares its layers and blobs with it."""
    target.mkdir(parents=True, exist_ok=True)
    cache = cache_folder()
    script = LINK_COPY.format(
        source=(store / "containerd").relative_to(cache), target=target.relative_to(cache)
    )
    with locked("store"):
        in_helper(provider, node, script)


def in_helper(provider: Provider, node: NodeImage, script: str) -> None:
    """Run a shell line as root over the cache folder, mounted at /cache, whoever the user is."""
    words = ("--rm", "--privileged", "--network=none", "-v", f"{cache_folder()}:/cache", "--entrypoint", "sh")
    provider.call("run", *words, node.reference, "-ec", script)


@contextmanager
def containerd_on(provider: Provider, node: NodeImage, folder: Path) -> Iterator[str]:
    """A container that runs containerd over a folder of this machine; stopped cleanly, so that its
    databases are whole.
    """
    name = f"diffusion-store-{os.getpid()}"
    options = (
        "-d",
        "--name",
        name,
        "--privileged",
        "--network=none",
        "--stop-timeout=0",
        "-v",
        f"{folder}:{CONTAINERD}",
        "--entrypoint",
        "sleep",
    )
    provider.call("run", *options, node.reference, "infinity")
    try:
        provider.call("exec", "-d", name, "containerd")
        _await(provider, name, "containerd answers", "ctr version")
        yield name
        provider.call("exec", name, "pkill", "-TERM", "-x", "containerd")
        _await(provider, name, "containerd has ended", "! pgrep -x containerd")
    finally:
        provider.call("rm", "-f", "-v", name)


def _await(
    provider: Provider, container: str, what: str, condition: str, deadline_seconds: float = 60
) -> None:
    end = time.monotonic() + deadline_seconds
    while not succeeds([provider.name, "exec", container, "sh", "-c", condition], env=provider.env):
        if time.monotonic() > end:
            raise LocalClusterError(
                f"waited {deadline_seconds:.0f} s in vain until {what} in the container {container}"
            )
        time.sleep(0.3)
