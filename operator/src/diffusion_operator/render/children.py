"""All children of one decision, in the order in which they must be applied."""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.placement.decision import Decision
from diffusion_operator.render.configmap import render_plan
from diffusion_operator.render.deployment import render_deployment
from diffusion_operator.render.networkpolicy import render_network_policy
from diffusion_operator.render.pdb import render_pod_disruption_budget
from diffusion_operator.render.service import render_service
from diffusion_operator.render.serviceaccount import render_service_account
from diffusion_operator.render.settings import RenderSettings


def render_children(
    dd: DiffusionDeployment, decision: Decision, settings: RenderSettings
) -> list[dict[str, Any]]:
    """Raw manifests that hold only what this operator owns. No group: nothing, what runs is left alone."""
    if not decision.groups:
        return []
    # Plans, the account and the network rules before the pods that they are for.
    manifests = [render_service_account(dd), *(render_plan(dd, group) for group in decision.groups)]
    if settings.network_policy is not None:
        manifests.append(render_network_policy(dd, settings.network_policy))
    manifests += [render_service(dd), render_pod_disruption_budget(dd)]
    return manifests + [render_deployment(dd, group, settings) for group in decision.groups]
