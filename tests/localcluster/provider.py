"""Chooses Docker or podman by trying, and wraps the few calls that both understand.

A container engine that is installed may still be unable to start what kind needs (a privileged container
with its own cgroup namespace), so each candidate has to run one before it is believed.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from localcluster import gotools
from localcluster.cache import digest
from localcluster.host import find_program, require_packages, require_root
from localcluster.progress import say
from localcluster.settings import cache_folder
from localcluster.shell import CommandError, LocalClusterError, run, succeeds

OPEN_FILES_WANTED = 20000
LARGE_BYTES = 2 * 10**9
PODMAN_PACKAGES = ("podman", "runc", "netavark", "aardvark-dns", "iptables", "ca-certificates")


@dataclass(frozen=True)
class Provider:
    """A container engine that has started a privileged container on this machine."""

    name: str
    env: Mapping[str, str] = field(default_factory=dict)

    def call(self, *words: str | Path, stdin: str | None = None, timeout_seconds: float | None = None) -> str:
        """Run the engine's command line with these words and return what it printed."""
        return run([self.name, *words], env=self.env, stdin=stdin, timeout_seconds=timeout_seconds)

    def has_image(self, reference: str) -> bool:
        return succeeds([self.name, "image", "inspect", reference], env=self.env)

    def images(self, repository: str) -> list[str]:
        """References ``repository:tag`` of one repository, newest first."""
        listed = self.call("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", repository)
        return [line for line in listed.split() if line.startswith(f"{repository}:")]

    def image_id(self, reference: str) -> str:
        return str(self._inspect(reference)["Id"]).removeprefix("sha256:")

    def remove_older_images(self, repository: str, current: str, keep: int = 2) -> None:
        """Keep the current image of a repository and the newest others up to ``keep``."""
        others = [reference for reference in self.images(repository) if reference != current]
        for reference in others[keep - 1 :]:
            if not succeeds([self.name, "image", "rm", reference], env=self.env):
                say(f"  {reference} is still in use; it stays")

    def remove_stale_layers(self, base: str) -> None:
        """Remove unnamed images on top of ``base`` that builds left: large ones, and those older than a day.

        Small ones of today stay, because the next build continues from them. Images of others are not
        touched, and the engine keeps what a named image is made of.
        """
        ours = self._inspect(base)["RootFS"]["Layers"]
        yesterday = datetime.now(UTC) - timedelta(days=1)
        for found in self.call("image", "ls", "-q", "--filter", "dangling=true").split():
            image = self._inspect(found)
            is_old = datetime.fromisoformat(str(image["Created"])[:19]).replace(tzinfo=UTC) < yesterday
            if image["RootFS"]["Layers"][: len(ours)] == ours and (is_old or image["Size"] > LARGE_BYTES):
                succeeds([self.name, "image", "rm", found], env=self.env)

    def _inspect(self, reference: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.call("image", "inspect", reference))
        return found[0]

    def import_root(self, root: Path, reference: str, changes: Sequence[str] = ()) -> None:
        """Make an image of one layer from a folder."""
        options = [word for change in changes for word in ("-c", change)]
        with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as tar:
            done = subprocess.run(
                [self.name, "import", *options, "-", reference],
                stdin=tar.stdout,
                env={**os.environ, **self.env},
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode != 0 or tar.returncode != 0:
            raise CommandError(
                [self.name, "import", reference], done.returncode or tar.returncode, done.stderr
            )


@cache
def choose() -> Provider:
    """The first of Docker and podman that starts a privileged container; podman is installed where that is
    allowed.
    """
    refusals: list[str] = []
    for name in ("docker", "podman"):
        if name == "podman":
            require_packages(
                PODMAN_PACKAGES, f"running a cluster with podman ({'; '.join(refusals) or 'no Docker here'})"
            )
        if find_program(name) is None:
            refusals.append(f"{name} is not installed")
            continue
        candidate = Provider(name, _podman_environment() if name == "podman" else {})
        refusal = _trial(candidate)
        if refusal is None:
            return candidate
        refusals.append(refusal)
    raise LocalClusterError("no container engine on this machine can run a cluster: " + "; ".join(refusals))


def _trial(candidate: Provider) -> str | None:
    """None when a privileged container ran; else why not, in one line."""
    if not succeeds([candidate.name, "info"], env=candidate.env, timeout_seconds=30):
        return f"{candidate.name} does not answer"
    kind = gotools.tool("kind")
    image = f"localhost/diffusion-trial:{digest([str(kind)])}"
    try:
        if not candidate.has_image(image):
            candidate.import_root(kind.parent, image)
        flags = ("--rm", "--privileged", "--cgroupns=private", "--network=none")
        candidate.call("run", *flags, image, "/kind", "version", timeout_seconds=60)
    except LocalClusterError as refused:
        why = str(refused).splitlines()[-1].strip()[:200]
        return f"{candidate.name} cannot start a privileged container ({why})"
    return None


def _podman_environment() -> dict[str, str]:
    """Settings for podman in the cache folder: limits it is allowed to set, and runc, which takes every
    cgroup layout.
    """
    hard_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    hard_processes = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    files = _at_most(hard_files)
    processes = _at_most(hard_processes)
    text = f'[containers]\ndefault_ulimits = ["nofile={files}:{files}", "nproc={processes}:{processes}"]\n'
    if find_program("runc"):
        text += '[engine]\nruntime = "runc"\n'
    settings = cache_folder() / "containers.conf"
    if not settings.exists() or settings.read_text() != text:
        settings.write_text(text)
    return {"CONTAINERS_CONF": str(settings)}


def _at_most(hard: int) -> int:
    return OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(OPEN_FILES_WANTED, hard)


def require_modules_folder() -> None:
    """kind mounts /lib/modules into its nodes; a machine without kernel modules lacks the folder. It is
    created empty.
    """
    folder = Path("/lib/modules")
    if folder.exists():
        return
    require_root("creating the empty folder /lib/modules, which kind mounts into its node,")
    folder.mkdir()
    say("created the empty folder /lib/modules, which kind mounts into its node")
