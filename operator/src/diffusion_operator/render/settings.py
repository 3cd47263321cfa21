"""What the operator's own installation decides about every engine pod."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NetworkPolicySettings:
    """Who may reach engines. `api_from` are NetworkPolicy peers for the API port; empty lets everybody in."""

    operator_namespace: str
    monitoring_namespaces: tuple[str, ...] = ()
    api_from: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class RenderSettings:
    """Engine image and how it is pulled; pull secrets are names of Secrets in the deployment's namespace.

    Without `network_policy`, no NetworkPolicy is made and those made before are removed.
    """

    engine_image: str
    engine_image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    network_policy: NetworkPolicySettings | None = None
