"""Moves an image of this machine into a containerd, and moves only the layers that are not there already.

The engine image has 6 GB of dependencies that rarely change under a few MB that change with every edit.
podman leaves out a layer that the folder it saves to holds already, so the folder starts with links to the
layers in containerd's own content store. What remains is a small OCI archive whose manifest names the other
layers by digest.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from localcluster.provider import Provider
from localcluster.settings import cache_folder
from localcluster.shell import CommandError, LocalClusterError

CTR = ("ctr", "-n", "k8s.io")
BLOBS = Path("io.containerd.content.v1.content/blobs/sha256")


def present_images(provider: Provider, container: str) -> set[str]:
    """References that the containerd in this container holds."""
    return set(provider.call("exec", container, *CTR, "images", "ls", "-q").split())


def remove_images(provider: Provider, container: str, repository: str, kept: Collection[str]) -> None:
    """Remove a repository's images that are not in ``kept``, under every name containerd has for them."""
    listed = provider.call("exec", container, *CTR, "images", "ls").splitlines()[1:]
    digests = {words[0]: words[2] for words in (line.split() for line in listed)}
    wanted = {digests[name] for name in kept if name in digests}
    old = {
        digest for name, digest in digests.items() if name.startswith(f"{repository}:") and name not in kept
    }
    # The kubelet's interface names each image a second time, by its id; while that name stays, so do the
    # layers.
    names = [
        name for name, digest in digests.items() if digest in old - wanted or _is_left_over(name, digests)
    ]
    if names:
        provider.call("exec", container, *CTR, "images", "rm", "--sync", *names)


def _is_left_over(name: str, digests: Mapping[str, str]) -> bool:
    """An id without any other name for the same image."""
    same = [other for other, digest in digests.items() if digest == digests[name]]
    return name.startswith("sha256:") and all(other.startswith("sha256:") for other in same)


def import_image(provider: Provider, container: str, root: Path, reference: str) -> None:
    """Bring an image into the containerd that runs in ``container`` over the folder ``root`` of this
    machine.
    """
    if provider.name == "podman":
        with tempfile.TemporaryDirectory(dir=cache_folder()) as scratch:
            layout = Path(scratch)
            linked = _link_present_layers(provider, root / BLOBS, layout / "blobs/sha256", reference)
            provider.call("save", "-q", "--format", "oci-dir", "--uncompressed", "-o", layout, reference)
            with (
                _import_stream(provider, container) as target,
                tarfile.open(fileobj=target, mode="w|") as archive,
            ):
                _write_layout(archive, layout, linked, reference)
        return
    with subprocess.Popen([provider.name, "save", reference], stdout=subprocess.PIPE) as save:
        if save.stdout is None:
            raise LocalClusterError("no pipe to the container engine")
        with _import_stream(provider, container) as target:
            while block := save.stdout.read(1 << 20):
                target.write(block)
    if save.returncode != 0:
        raise CommandError([provider.name, "save", reference], save.returncode, "")


def _link_present_layers(provider: Provider, source: Path, target: Path, reference: str) -> set[str]:
    """Link the image's layers that ``source`` holds into ``target``; returns their digests."""
    target.mkdir(parents=True)
    layers = json.loads(provider.call("image", "inspect", reference))[0]["RootFS"]["Layers"]
    linked = {
        name for name in (str(layer).removeprefix("sha256:") for layer in layers) if (source / name).exists()
    }
    for name in linked:
        os.link(source / name, target / name)
    return linked


def _write_layout(archive: tarfile.TarFile, layout: Path, left_out: set[str], reference: str) -> None:
    """The layout's files without the linked layers; the index gets the name under which containerd keeps
    the image.
    """
    index = json.loads((layout / "index.json").read_text())
    for entry in index["manifests"]:
        entry["annotations"] = {"io.containerd.image.name": reference}
    content = json.dumps(index).encode()
    member = tarfile.TarInfo("index.json")
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
    archive.add(layout / "oci-layout", "oci-layout")
    for blob in sorted((layout / "blobs/sha256").iterdir()):
        if blob.name not in left_out:
            archive.add(blob, f"blobs/sha256/{blob.name}")


@contextmanager
def _import_stream(provider: Provider, container: str) -> Iterator[IO[bytes]]:
    """``ctr images import`` in a container, as a stream to write to; its failure is raised with its own
    words.
    """
    command = [provider.name, "exec", "-i", container, *CTR, "images", "import", "-"]
    env = {**os.environ, **provider.env}
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, env=env) as load:
        if load.stdin is None or load.stderr is None:
            raise LocalClusterError("no pipe to the container engine")
        # A program that ends early breaks the pipe; its own words, read below, say why.
        with suppress(BrokenPipeError):
            yield load.stdin
            load.stdin.close()
        words = load.stderr.read().decode(errors="replace")
    if load.returncode != 0:
        raise CommandError(command, load.returncode, words)
