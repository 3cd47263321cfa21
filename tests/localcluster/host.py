"""What this machine must have installed. Installs it only where that was asked for; else says in one
sentence what is missing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from localcluster.progress import step
from localcluster.shell import LocalClusterError, run

LOCAL_BUILD_PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "gcc": "gcc",
}
EXTRA_PACKAGES = {
    "netavark": (Path("/usr/lib/podman/netavark"), Path("/usr/libexec/podman/netavark")),
    "aardvark-dns": (Path("/usr/lib/podman/aardvark-dns"), Path("/usr/libexec/podman/aardvark-dns")),
    "libc6-dev": (Path("/usr/include/stdio.h"),),
    "ca-certificates": (Path("/etc/ssl/certs/ca-certificates.crt"),),
}


def missing_packages(names: Iterable[str]) -> list[str]:
    """Debian packages among ``names`` whose program or file is not on this machine."""
    missing: list[str] = []
    for name in names:
        if name in EXTRA_PACKAGES:
            if not any(path.exists() for path in EXTRA_PACKAGES[name]):
                missing.append(name)
        elif find_program(LOCAL_BUILD_PACKAGES.get(name, name)) is None:
            missing.append(name)
    return missing


def find_program(name: str) -> str | None:
    """Like ``which``, but looks into sbin as well, which is not on an ordinary user's PATH."""
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def require_packages(names: Iterable[str], purpose: str) -> None:
    """Install what is missing with YES=1 (or in CI), as root; else raise one sentence with the packages and
    the command.
    """
    missing = missing_packages(names)
    if not missing:
        return
    command = f"apt-get install -y --no-install-recommends {' '.join(missing)}"
    is_root = os.geteuid() == 0
    allowed = os.environ.get("YES") == "1" or os.environ.get("CI") == "true"
    if not (is_root and allowed):
        prefix = "" if is_root else "sudo "
        raise LocalClusterError(
            f"{purpose} needs these Debian packages: {' '.join(missing)}. "
            f"Install them with `{prefix}{command}`, "
            "or run the same make target as root with YES=1 and it will do that"
        )
    with step(f"installing Debian packages: {' '.join(missing)}"):
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run(["apt-get", "update", "-qq"], env=quiet, timeout_seconds=300)
        run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing],
            env=quiet,
            timeout_seconds=900,
        )


def require_root(purpose: str) -> None:
    """Raise a sentence unless this process is root."""
    if os.geteuid() != 0:
        raise LocalClusterError(f"{purpose} needs root on this machine; run the same make target with sudo")


def debian_mirror() -> str | None:
    """The mirror this machine's apt uses, or None: then debootstrap takes its own default."""
    sources = sorted(Path("/etc/apt").glob("sources.list*")) + sorted(
        Path("/etc/apt/sources.list.d").glob("*")
    )
    for file in sources:
        if not file.is_file():
            continue
        for line in file.read_text(errors="replace").splitlines():
            words = line.split()
            if line.startswith("URIs:") and len(words) > 1 and "/debian" in words[1]:
                return words[1]
            addresses = [word for word in words[1:] if "://" in word]
            if line.startswith("deb ") and addresses and addresses[0].rstrip("/").endswith("/debian"):
                return addresses[0]
    return None
