"""Versions, folders and names: the one place where the local cluster's constants are written down."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

KUBERNETES_VERSION = "v1.34.4"
ETCD_VERSION = "v3.6.8"
KIND_VERSION = "v0.33.0"
COREDNS_VERSION = "v1.12.4"
KWOK_VERSION = "v0.8.0"
HELM_VERSION = "v4.3.1"
HELM3_VERSION = "v3.22.0"
PROMTOOL_VERSION = "v0.316.0"
GOPHER_LUA_VERSION = "v1.1.2"
KSTATUS_VERSION = "v0.37.2"
PROMETHEUS_OPERATOR_VERSION = "v0.85.0"
KEDA_VERSION = "v2.21.0"
NODE_SUITE = "bookworm"
BASE_SUITE = "trixie"
OPERATOR_NAMESPACE = "diffusion-operator"
HELM_RELEASE = "diffusion-operator"
REPOSITORY = Path(__file__).resolve().parents[2]
GIB = 1024**3


def cache_folder() -> Path:
    """The folder outside the checkout that holds every result that takes long to make."""
    folder = os.environ.get("DIFFUSION_CACHE")
    path = Path(folder) if folder else Path.home() / ".cache" / "diffusion-operator"
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@dataclass(frozen=True)
class ClusterFolder:
    """Where one cluster keeps its files. The demo and the tests have a cluster each, so neither ends the
    other.
    """

    name: str

    @property
    def root(self) -> Path:
        return cache_folder() / "clusters" / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.root / "audit" / "audit.log"

    @property
    def containerd(self) -> Path:
        return self.root / "containerd"

    @property
    def node(self) -> str:
        return f"{self.name}-control-plane"

    @property
    def network(self) -> str:
        return self.name


DEMO_CLUSTER = ClusterFolder("diffusion-demo")
TEST_CLUSTER = ClusterFolder("diffusion-test")
