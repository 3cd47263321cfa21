"""What the operator's own installation decides about every engine pod."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RenderSettings:
    """Engine image and how it is pulled; pull secrets are names of Secrets in the deployment's namespace."""

    engine_image: str
    engine_image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    hub_endpoint: str = ""
    """Another model hub, or a mirror of the public one; empty: the public one."""
