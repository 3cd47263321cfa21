"""The plan as an immutable ConfigMap.

A new plan is a new object; an old one lives while a ReplicaSet names it.
"""

from __future__ import annotations

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.names import LABEL_PLAN_HASH, PLAN_KEY, plan_config_map_name
from diffusion_operator.placement.decision import GroupDecision
from diffusion_operator.render.metadata import Manifest, child_metadata


def render_plan(dd: DiffusionDeployment, group: GroupDecision) -> Manifest:
    """The document that the engine follows.

    A kept plan is rendered from the document that exists, so that applying it again changes nothing.
    """
    metadata = child_metadata(dd, plan_config_map_name(dd.name, group.name, group.plan.hash), group.name)
    metadata["labels"][LABEL_PLAN_HASH] = group.plan.hash
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": True,
        "data": {PLAN_KEY: group.plan.to_json()},
    }
