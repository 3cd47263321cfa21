"""The cluster, the product on it and a namespace a test: those of tests/cluster."""

from __future__ import annotations

from cluster.conftest import cluster, room

__all__ = ["cluster", "room"]
