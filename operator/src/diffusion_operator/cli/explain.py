"""`kubectl diffusion explain NAME`: what the operator did with one DiffusionDeployment, and why."""

from __future__ import annotations

from diffusion_operator.cli.kubectl import Kubectl
from diffusion_operator.cli.style import Style
from diffusion_operator.cli.view import view_of
from diffusion_operator.cli.words import words


def explain(kubectl: Kubectl, name: str, namespace: str | None, style: Style) -> str:
    """The live object in words. Raises NoSuchDeployment, ClusterUnreachable."""
    return words(view_of(kubectl.deployment(name, namespace)), style)
