"""The ServiceAccount of the engine's pods. It has no rights and its token is never mounted."""

from __future__ import annotations

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.render.metadata import Manifest, child_metadata


def render_service_account(dd: DiffusionDeployment) -> Manifest:
    """An identity without rights, so that nothing depends on the namespace's `default` account."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": child_metadata(dd, dd.name),
        "automountServiceAccountToken": False,
    }
