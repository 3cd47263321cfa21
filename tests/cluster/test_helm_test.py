"""`helm test` asks the running operator whether it works."""

from __future__ import annotations

from localcluster.install import helm
from localcluster.kindcluster import Cluster
from localcluster.settings import HELM_RELEASE, OPERATOR_NAMESPACE


def test_it_passes(cluster: Cluster) -> None:
    said = helm(cluster, "test", HELM_RELEASE, "--namespace", OPERATOR_NAMESPACE, "--timeout", "120s")
    assert "Succeeded" in said
