"""The image that kind boots as a node: the published one where it can be pulled, else one made of Debian
and Go binaries.

The one made here holds no component images; those go into the image store (store.py), which every node gets
as a mount.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

from localcluster import gotools, noderoot
from localcluster.cache import digest, locked
from localcluster.progress import say, step
from localcluster.provider import Provider
from localcluster.settings import KIND_VERSION, KUBERNETES_VERSION, NODE_SUITE, cache_folder
from localcluster.shell import LocalClusterError

ANSWER_SECONDS = 20
PULL_SECONDS = 900
REFUSAL_COUNTS_SECONDS = 24 * 3600
LOCAL_REPOSITORY = "localhost/diffusion-kind-node"


@dataclass(frozen=True)
class NodeImage:
    """A node image on this machine. ``built_here``: without component images, with its own pod network
    settings.
    """

    reference: str
    kubernetes_version: str
    built_here: bool


def node_image(provider: Provider) -> NodeImage:
    """The published image of this kind version if it is here or can be pulled, else the one built here."""
    published = _published_reference()
    if provider.has_image(published) or _pulled(provider, published):
        version = provider.call("run", "--rm", "--entrypoint", "cat", published, "/kind/version").strip()
        return NodeImage(published, version, built_here=False)
    key = digest([KUBERNETES_VERSION, KIND_VERSION, NODE_SUITE, Path(noderoot.__file__)])
    reference = f"{LOCAL_REPOSITORY}:{KUBERNETES_VERSION}-{key}"
    with locked("node-image"):
        if not provider.has_image(reference):
            with step("making the node image from Debian packages and Go binaries"):
                noderoot.build_node_image(provider, reference)
        provider.remove_older_images(LOCAL_REPOSITORY, reference)
    return NodeImage(reference, KUBERNETES_VERSION, built_here=True)


def _published_reference() -> str:
    source = gotools.module_folder("sigs.k8s.io/kind", KIND_VERSION) / "pkg/apis/config/defaults/image.go"
    match = re.search(r'const Image = "([^"]+)"', source.read_text())
    if match is None:
        raise LocalClusterError(f"kind {KIND_VERSION} names no default node image in {source}")
    return match.group(1)


def _pulled(provider: Provider, reference: str) -> bool:
    """Ask the registry for 20 s whether it has the image, then pull it. A refusal is remembered for a day."""
    refused = cache_folder() / "no-registry" / digest([provider.name, reference])
    if refused.exists() and time.time() - refused.stat().st_mtime < REFUSAL_COUNTS_SECONDS:
        return False
    say(f"trying to pull the published node image {reference.split('@')[0]}")
    try:
        provider.call("manifest", "inspect", reference, timeout_seconds=ANSWER_SECONDS)
        with step("pulling the published node image"):
            provider.call("pull", "-q", reference, timeout_seconds=PULL_SECONDS)
    except LocalClusterError as failed:
        say(f"  it cannot be pulled here ({str(failed).splitlines()[-1].strip()[:120]}); one will be built")
        refused.parent.mkdir(exist_ok=True)
        refused.touch()
        return False
    return True
