"""Metadata that every child carries.

name, labels, and the controller reference that makes deletion automatic.
"""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.names import child_labels

Manifest = dict[str, Any]


def child_metadata(dd: DiffusionDeployment, name: str, group: str | None = None) -> Manifest:
    """Metadata of one child in the namespace of its owner."""
    return {
        "name": name,
        "namespace": dd.namespace,
        "labels": child_labels(dd.name, group),
        "ownerReferences": [dd.owner_reference()],
    }
