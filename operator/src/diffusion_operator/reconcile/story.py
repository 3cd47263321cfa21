"""The reconcile of one DiffusionDeployment, from top to bottom.

Level-triggered: it reads everything fresh, decides, writes what differs and says what it sees. It remembers
nothing that the cluster does not hold, except who waits for GPUs. It sets no finalizer and reads no Secret.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.errors import InvalidSpec
from diffusion_operator.api.names import FIELD_MANAGER, LABEL_DEPLOYMENT, LABEL_MANAGED_BY
from diffusion_operator.inventory.gpu_nodes import parse_gpu_node
from diffusion_operator.inventory.ledger import build_ledger
from diffusion_operator.inventory.objects import parse_deployment, parse_node, parse_pod
from diffusion_operator.inventory.requests import BadObject
from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import Forbidden, Invalid, NotFound
from diffusion_operator.kube.reports import ReportReader
from diffusion_operator.kube.resources import (
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    GPU_NODES,
    NODES,
    PODS,
    SERVICES,
    JsonObject,
)
from diffusion_operator.placement.decide import decide
from diffusion_operator.placement.decision import Decision, Refusal
from diffusion_operator.reconcile.children import (
    Children,
    ChildWriter,
    list_children,
    unused_plans,
    unwanted_deployments,
)
from diffusion_operator.reconcile.conditions import Situation
from diffusion_operator.reconcile.current import current_groups
from diffusion_operator.reconcile.events import EventRecorder, changes
from diffusion_operator.reconcile.keys import DeploymentKey
from diffusion_operator.reconcile.observe import Observation, deployment_view, pod_views, read_reports
from diffusion_operator.reconcile.status import build_status
from diffusion_operator.reconcile.status_writer import StatusWriter
from diffusion_operator.render.children import render_children
from diffusion_operator.render.settings import RenderSettings

logger = logging.getLogger(__name__)
T = TypeVar("T")

WAITING_RECHECK_S = 15.0
REPORT_RECHECK_S = 5.0
MANAGED_SELECTOR = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"
RUNNING_PODS = "status.phase!=Succeeded,status.phase!=Failed"


@dataclass(frozen=True)
class Outcome:
    """When to look again unasked (None: only on a hint), and how the pass went, for metrics."""

    recheck_after_s: float | None = None
    reason: str = "Ready"
    plan: str = "none"


@dataclass(frozen=True)
class _Decided:
    """A decision that has been written. `own_pods` are this deployment's raw pods as it saw them."""

    decision: Decision
    own_pods: Sequence[JsonObject]


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Reconciler:
    """Holds the collaborators; one instance serves all keys."""

    def __init__(
        self,
        client: KubeClient,
        reports: ReportReader,
        settings: RenderSettings,
        *,
        instance: str = "diffusion-operator",
        engine_version: str = "",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._client = client
        self._reports = reports
        self._settings = settings
        self._engine_version = engine_version
        self._now = now
        self._writer = ChildWriter(client)
        self._status = StatusWriter(client)
        self._events = EventRecorder(client, instance, now)
        # One lock from reading the ledger to writing the Deployment: two deployments never take one GPU.
        self._capacity_lock = asyncio.Lock()
        self.waiting: set[DeploymentKey] = set()

    async def reconcile(self, key: DeploymentKey) -> Outcome:
        """One pass. Raises ApiError when the API server gave no usable answer; the queue tries again."""
        try:
            dd = await self._client.get(DIFFUSION_DEPLOYMENTS, key.name, key.namespace)
        except NotFound:
            dd = None
        if dd is None or "deletionTimestamp" in dd["metadata"]:
            # Children go through their owner references.
            self.waiting.discard(key)
            return Outcome(reason="Gone")

        children = await list_children(self._client, dd)
        try:
            parsed = DiffusionDeployment.parse(dd)
        except InvalidSpec as error:
            return await self._refuse(key, dd, children, _refusal_of(error))

        try:
            decided = await self._decide_and_write(parsed, children)
        except InvalidSpec as error:
            return await self._refuse(key, dd, children, _refusal_of(error))
        except Invalid as error:
            refusal = Refusal("InvalidSpec", f"the API server refused a child: {error}", stalled=True)
            return await self._refuse(key, dd, children, refusal)
        except Forbidden as error:
            refusal = Refusal("Progressing", f"the operator lacks a permission: {error}", stalled=False)
            return await self._refuse(key, dd, children, refusal)
        return await self._report(key, dd, children, decided, parsed)

    async def _decide_and_write(self, dd: DiffusionDeployment, children: Children) -> _Decided:
        async with self._capacity_lock:
            nodes, pods, deployments, gpu_nodes = await asyncio.gather(
                self._client.list(NODES),
                self._client.list(PODS, field_selector=RUNNING_PODS),
                self._client.list(DEPLOYMENTS, label_selector=MANAGED_SELECTOR),
                list_gpu_nodes(self._client),
            )
            ledger = build_ledger(
                _parsed(parse_node, nodes),
                _parsed(parse_pod, pods),
                _parsed(parse_deployment, deployments),
                _parsed(parse_gpu_node, gpu_nodes),
            )
            current = current_groups(dd.name, children)
            decision = decide(dd, ledger, current=current, engine_version=self._engine_version)
            own = [pod for pod in pods if _belongs_to(pod, dd.namespace, dd.name)]
            if decision.refusal is not None and not decision.groups:
                # What serves keeps serving until something can take its place.
                return _Decided(decision, own)
            await self._write(dd, decision, children)
            return _Decided(decision, own)

    async def _write(self, dd: DiffusionDeployment, decision: Decision, children: Children) -> None:
        manifests = render_children(dd, decision, self._settings)
        if dd.spec.suspend:
            manifests = [manifest for manifest in manifests if manifest["kind"] != DEPLOYMENTS.kind]
        await self._writer.apply(children, manifests)
        wanted = [
            manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == DEPLOYMENTS.kind
        ]
        views = {view.name: view for view in map(deployment_view, children.deployments)}
        if all(views[name].settled for name in wanted):
            # A group that is no longer used serves until the groups that replace it do.
            await self._writer.remove(children, unwanted_deployments(children, manifests))
        await self._writer.remove(children, unused_plans(children, manifests))

    async def _refuse(
        self, key: DeploymentKey, dd: JsonObject, children: Children, refusal: Refusal
    ) -> Outcome:
        """Say why the spec cannot be followed; no child is touched."""
        selector = f"{LABEL_DEPLOYMENT}={key.name}"
        pods = await self._client.list(PODS, key.namespace, label_selector=selector)
        return await self._report(key, dd, children, _Decided(Decision(refusal=refusal), pods), None)

    async def _report(
        self,
        key: DeploymentKey,
        dd: JsonObject,
        children: Children,
        decided: _Decided,
        parsed: DiffusionDeployment | None,
    ) -> Outcome:
        """Look at children, pods and engines, and write Events and status."""
        now = self._now()
        pods = pod_views(decided.own_pods, now)
        reports, unread = await read_reports(pods, self._reports)
        observation = Observation(tuple(map(deployment_view, children.deployments)), pods, reports, unread)
        situation = Situation(
            observation=observation,
            groups=decided.decision.groups,
            refusal=decided.decision.refusal,
            suspended=bool(parsed and parsed.spec.suspend),
            wanted=parsed.spec.replicas if parsed else 1,
            built_in_model=parsed is None or parsed.spec.model.source.kind == "builtIn",
        )
        status = build_status(dd, situation, port=_service_port(children), now=now)
        for change in changes(dd.get("status") or {}, status):
            # Before the status: a crash in between repeats the Event, and a repeat becomes a series.
            await self._events.post(dd, change)
        await self._status.write(dd, status)
        return self._outcome(key, situation, status)

    def _outcome(self, key: DeploymentKey, situation: Situation, status: JsonObject) -> Outcome:
        conditions = {condition["type"]: condition for condition in status["conditions"]}
        refusal, observation = situation.refusal, situation.observation
        short = refusal is not None or conditions["Degraded"]["status"] == "True"
        unschedulable = any(pod.problem and pod.problem.reason == "Unschedulable" for pod in observation.pods)
        if short or unschedulable:
            self.waiting.add(key)
        else:
            self.waiting.discard(key)
        rechecks = [pod.recheck_after_s for pod in observation.pods if pod.recheck_after_s is not None]
        if observation.unread:
            rechecks.append(REPORT_RECHECK_S)
        if unschedulable or (refusal is not None and not refusal.stalled):
            rechecks.append(WAITING_RECHECK_S)
        plan = "refused" if not situation.groups else "planned" if refusal is None else "partial"
        return Outcome(min(rechecks, default=None), conditions["Ready"]["reason"], plan)


async def list_gpu_nodes(client: KubeClient) -> list[JsonObject]:
    """What node agents reported; nothing where their kind is not installed."""
    try:
        return await client.list(GPU_NODES)
    except NotFound:
        return []


def _parsed(parse: Callable[[JsonObject], T], raws: Sequence[JsonObject]) -> list[T]:
    """Parse what can be parsed: one odd object of somebody else must not stop every decision."""
    found = []
    for raw in raws:
        try:
            found.append(parse(raw))
        except BadObject as error:
            logger.warning("left out of the ledger: %s", error)
    return found


def _refusal_of(error: InvalidSpec) -> Refusal:
    return Refusal("InvalidSpec", str(error), stalled=True, field=error.field)


def _belongs_to(pod: JsonObject, namespace: str, name: str) -> bool:
    metadata = pod["metadata"]
    return metadata["namespace"] == namespace and (metadata.get("labels") or {}).get(LABEL_DEPLOYMENT) == name


def _service_port(children: Children) -> int | None:
    for (kind, _), live in children.objects.items():
        if kind == SERVICES.kind:
            ports = live.get("spec", {}).get("ports") or [{}]
            return int(ports[0].get("port", 80))
    return None
