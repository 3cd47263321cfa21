"""Hands this machine's package index, certificates and proxy to an image build without storing them in the
image.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from localcluster.settings import cache_folder
from localcluster.shell import LocalClusterError, run

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout")


def build_flags(provider_name: str) -> list[str | Path]:
    """Flags of ``build``. podman mounts files; Docker cannot, and gets the index as build arguments
    instead.
    """
    proxies = [f"{name}={os.environ[name]}" for name in PROXIES if name in os.environ]
    flags: list[str | Path] = [word for proxy in proxies for word in ("--build-arg", proxy)]
    pip = _pip_settings()
    if provider_name == "docker":
        if "index-url" in pip:
            flags += ["--build-arg", f"PIP_INDEX_URL={pip['index-url']}"]
            flags += ["--build-arg", f"UV_DEFAULT_INDEX={pip['index-url']}"]
        return flags
    folder = cache_folder() / "build-settings"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "pip.conf").write_text(
        "[global]\n" + "".join(f"{name} = {value}\n" for name, value in pip.items())
    )
    (folder / "uv.toml").write_text(_uv_settings(pip))
    downloads = cache_folder() / "downloads"
    downloads.mkdir(exist_ok=True)
    mounts = {folder / "pip.conf": "/etc/pip.conf:ro", folder / "uv.toml": "/etc/uv/uv.toml:ro"}
    if CERTIFICATES.exists():
        mounts[CERTIFICATES] = f"{CERTIFICATES}:ro"
    return flags + [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}")]


def _pip_settings() -> dict[str, str]:
    """What pip on this machine is told, without paths of this machine: those mean nothing inside a build."""
    try:
        listed = run(["python3", "-m", "pip", "config", "list"])
    except LocalClusterError:
        return {}
    found: dict[str, str] = {}
    for name, value in re.findall(r"^[^.\n]*\.([a-z-]+)='(.*)'$", listed, re.MULTILINE):
        if name in PIP_KEYS and not value.startswith("/"):
            found[name] = value
    return found


def _uv_settings(pip: dict[str, str]) -> str:
    """uv trusts its own list of authorities unless told to use the system's; a company proxy needs the
    system's.
    """
    lines = ["native-tls = true"]
    index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or pip.get("index-url")
    if index:
        lines += ["[[index]]", f'url = "{index}"', "default = true"]
    return "\n".join(lines) + "\n"
