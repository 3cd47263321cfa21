"""Debian roots made with debootstrap: the base of every image that is built where no image registry
answers.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from localcluster.cache import digest, locked, require_disk
from localcluster.host import debian_mirror, require_packages, require_root
from localcluster.progress import step
from localcluster.provider import Provider
from localcluster.settings import BASE_SUITE, cache_folder
from localcluster.shell import run

PATH_SETTING = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BASE_PACKAGES = ("ca-certificates", "python3", "python3-venv")
PROXY_PACKAGES = (*BASE_PACKAGES, "iptables", "nftables", "conntrack", "kmod")
BASE_REPOSITORY = "localhost/diffusion-base"


def debootstrap(suite: str, packages: tuple[str, ...], target: Path) -> None:
    """Fill ``target`` with a minimal Debian and these packages; lists and archives are removed again."""
    require_packages(("debootstrap",), f"making a Debian {suite} root")
    require_root(f"making a Debian {suite} root with debootstrap")
    require_disk(2, f"making a Debian {suite} root")
    mirror = debian_mirror()
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(packages)}", suite, str(target)]
    run(command + ([mirror] if mirror else []), timeout_seconds=1800, merge_stderr=True)
    for leftover in (
        "var/cache/apt/archives",
        "var/lib/apt/lists",
        "debootstrap",
        "usr/share/doc",
        "usr/share/man",
    ):
        shutil.rmtree(target / leftover, ignore_errors=True)
    for needed in ("var/cache/apt/archives/partial", "var/lib/apt/lists/partial"):
        (target / needed).mkdir(parents=True, exist_ok=True)


def base_image(provider: Provider) -> str:
    """The image that the engine's and the operator's Dockerfile start from: Debian trixie with Python."""
    return _root_image(provider, BASE_REPOSITORY, BASE_PACKAGES)


def proxy_base_image(provider: Provider) -> str:
    """The image that kube-proxy is put on: the same Debian with iptables and nftables."""
    return _root_image(provider, "localhost/diffusion-proxy-base", PROXY_PACKAGES)


def _root_image(provider: Provider, repository: str, packages: tuple[str, ...]) -> str:
    reference = f"{repository}:{BASE_SUITE}-{digest([BASE_SUITE, *packages, str(debian_mirror())])}"
    with locked(repository.replace("/", "-")):
        if provider.has_image(reference):
            return reference
        with (
            step(f"making {reference} with debootstrap"),
            tempfile.TemporaryDirectory(dir=cache_folder()) as scratch,
        ):
            root = Path(scratch) / "root"
            debootstrap(BASE_SUITE, packages, root)
            provider.import_root(root, reference, [PATH_SETTING])
    return reference
