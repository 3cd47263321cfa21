"""What runs now, read back from the children, so that a decision can keep it. Nothing is remembered."""

from __future__ import annotations

import logging
from functools import lru_cache

from pydantic import ValidationError

from diffusion_operator.api.names import ANNOTATION_INTENT, PLAN_KEY, plan_config_map_name
from diffusion_operator.kube.resources import CONFIG_MAPS, JsonObject
from diffusion_operator.placement.decision import CurrentGroup, Rollout
from diffusion_operator.reconcile.children import Children
from diffusion_operator.reconcile.observe import ENGINE_CONTAINER, deployment_view
from diffusion_runtime.planning.documents import Plan

logger = logging.getLogger(__name__)


def current_groups(dd_name: str, children: Children) -> tuple[CurrentGroup, ...]:
    """One group per live Deployment whose plan can still be read; the others count as not there."""
    found = []
    for live in children.deployments:
        view = deployment_view(live)
        plan = plan_document(dd_name, view.group, view.plan_hash, children)
        if plan is None or "deletionTimestamp" in live["metadata"]:
            continue
        found.append(
            CurrentGroup(
                name=view.group,
                plan=plan,
                intent=(live["metadata"].get("annotations") or {}).get(ANNOTATION_INTENT, ""),
                replicas=view.wanted,
                rollout=_rollout(live),
                settled=view.observed and view.updated == view.existing,
                stuck=view.pods_refused,
                engine_image=_engine_image(live),
            )
        )
    return tuple(found)


def plan_document(dd_name: str, group: str, plan_hash: str, children: Children) -> Plan | None:
    """The plan of this hash, None (and a line in the log) when its ConfigMap is gone or unreadable."""
    name = plan_config_map_name(dd_name, group, plan_hash)
    config_map = children.objects.get((CONFIG_MAPS.kind, name))
    if config_map is None:
        logger.warning("plan %s of group %s is gone: there is no ConfigMap %s", plan_hash, group, name)
        return None
    try:
        return _read(str((config_map.get("data") or {}).get(PLAN_KEY, "")))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        logger.warning("plan in ConfigMap %s is not one that this operator knows: %s", name, first["msg"])
        return None


@lru_cache(maxsize=512)
def _read(text: str) -> Plan:
    """A document is immutable, and each look at a deployment reads it anew. Raises ValidationError."""
    return Plan.model_validate_json(text)


def _engine_image(live: JsonObject) -> str | None:
    """The image that the Deployment's template names."""
    containers = live.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ()
    return next((c.get("image") for c in containers if c.get("name") == ENGINE_CONTAINER), None)


def _rollout(live: JsonObject) -> Rollout | None:
    """None when the counts are percentages, which this operator never writes."""
    strategy = live.get("spec", {}).get("strategy") or {}
    if strategy.get("type") == "Recreate":
        return Rollout("Recreate")
    counts = strategy.get("rollingUpdate") or {}
    surge, unavailable = counts.get("maxSurge"), counts.get("maxUnavailable")
    if isinstance(surge, int) and isinstance(unavailable, int):
        return Rollout("RollingUpdate", surge, unavailable)
    return None
