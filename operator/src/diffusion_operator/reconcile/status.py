"""The whole `status` of one DiffusionDeployment, and the rule when not to write it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from diffusion_operator.api.names import GROUP_VERSION, KIND, LABEL_DEPLOYMENT
from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.placement.history import NO_HISTORY, History
from diffusion_operator.reconcile.compare import differences
from diffusion_operator.reconcile.conditions import Situation, conditions_of, with_times
from diffusion_operator.reconcile.history_status import history_status
from diffusion_operator.reconcile.observe import Observation
from diffusion_operator.reconcile.observed import observed_status
from diffusion_operator.reconcile.plan_status import placement_status, plan_status


def build_status(
    dd: JsonObject,
    situation: Situation,
    *,
    port: int | None,
    now: datetime,
    history: History = NO_HISTORY,
) -> JsonObject:
    """The status to write for the raw object `dd`. `port` of the Service, None when there is no Service."""
    metadata, before = dd["metadata"], dd.get("status") or {}
    generation = metadata.get("generation", 1)
    views = situation.observation.deployments
    current = {(group.name, group.plan.hash) for group in situation.groups}
    status: JsonObject = {
        "observedGeneration": generation,
        "replicas": sum(view.existing for view in views),
        "readyReplicas": sum(view.ready for view in views),
        "updatedReplicas": sum(view.updated for view in views if (view.group, view.plan_hash) in current),
        "selector": f"{LABEL_DEPLOYMENT}={metadata['name']}",
        "conditions": with_times(conditions_of(situation), before.get("conditions") or (), generation, now),
    }
    if port is not None:
        status["url"] = service_url(metadata["name"], metadata["namespace"], port)
    status |= _promise(situation, before)
    # A fallback that became the plan has a peak of its own, but no forecast of its phases.
    plans = [group.plan for group in situation.groups if not group.downgraded_from]
    observed = observed_status(situation.observation.reports, plans, before.get("observed") or {})
    remembered = history_status(history)
    for name, value in (("observed", observed), ("history", remembered)):
        if value:
            status[name] = value
    return status


def status_manifest(dd: JsonObject, status: JsonObject) -> JsonObject:
    """The object to apply on /status. The uid keeps it off a successor of the same name."""
    metadata = dd["metadata"]
    return {
        "apiVersion": GROUP_VERSION,
        "kind": KIND,
        "metadata": {"name": metadata["name"], "namespace": metadata["namespace"], "uid": metadata["uid"]},
        "status": status,
    }


def same_status(one: JsonObject, other: JsonObject) -> bool:
    """Whether two statuses say the same; what is empty equals what is absent."""
    return not differences(one, other) and not differences(other, one)


def service_url(name: str, namespace: str, port: int) -> str:
    """Address inside the cluster."""
    host = f"http://{name}.{namespace}.svc"
    return host if port == 80 else f"{host}:{port}"


def _promise(situation: Situation, before: JsonObject) -> JsonObject:
    """The plan in force and who follows it. While a new spec is refused, earlier promises hold."""
    if not situation.groups:
        kept = situation.refusal is not None and situation.observation.deployments
        if situation.to_come is not None and not kept:
            return {"plan": plan_status(situation.to_come)}
        if not kept:
            return {}
        promised = _still_promised(before.get("placements") or (), situation.observation)
        return {
            name: value
            for name, value in (("plan", before.get("plan")), ("placements", promised))
            if value and name in before
        }
    promise: JsonObject = {"plan": plan_status(situation.groups[0], situation.warnings)}
    if not situation.suspended:
        promise["placements"] = [placement_status(group) for group in situation.groups]
    return promise


def _still_promised(placements: Sequence[JsonObject], observation: Observation) -> list[JsonObject]:
    """Earlier promises, less the pods that the scheduler cannot place: for those there is nothing to promise.

    GPUs are reserved for them anew when there is room again, by a decision of its own.
    """
    found = []
    for placement in placements:
        homeless = sum(
            1
            for pod in observation.pods
            if pod.group == placement["group"] and pod.problem and pod.problem.reason == "Unschedulable"
        )
        replicas = max(0, placement["replicas"] - homeless)
        if replicas:
            found.append({**placement, "replicas": replicas} if homeless else placement)
    return found
