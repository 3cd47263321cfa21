"""The reconcile of one DiffusionDeployment, from top to bottom.

Level-triggered: it takes everything from the mirror, decides, writes what differs and says what it sees. It
remembers nothing that the cluster does not hold, except who waits for GPUs and promises under way. It sets no
finalizer and reads no Secret.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.errors import InvalidSpec
from diffusion_operator.inventory.objects import parse_deployment
from diffusion_operator.inventory.totals import GpuTotals
from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import Conflict, Forbidden, Invalid, NotFound
from diffusion_operator.kube.reports import ReportReader
from diffusion_operator.kube.resources import (
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    PODS,
    SERVICES,
    JsonObject,
)
from diffusion_operator.placement.decide import NO_TERMS, decide
from diffusion_operator.placement.decision import CurrentGroup, Decision, GroupDecision, Refusal
from diffusion_operator.placement.groups import Terms
from diffusion_operator.placement.history import History
from diffusion_operator.placement.wish import intent_hash
from diffusion_operator.reconcile.capacity import Capacity
from diffusion_operator.reconcile.children import (
    ChildLeaving,
    Children,
    ChildWriter,
    children_of,
    unused_plans,
    unwanted_deployments,
    unwanted_policies,
)
from diffusion_operator.reconcile.conditions import ModelCondition, Situation
from diffusion_operator.reconcile.current import current_groups, plan_document
from diffusion_operator.reconcile.event_sender import EventSender
from diffusion_operator.reconcile.events import changes
from diffusion_operator.reconcile.evidence import (
    Findings,
    deadline_seconds,
    findings,
    overdue_pods,
    with_progress,
    with_stuck,
)
from diffusion_operator.reconcile.history_status import (
    history_status,
    needed_config_maps,
    read_history,
    with_ready,
)
from diffusion_operator.reconcile.keys import DeploymentKey
from diffusion_operator.reconcile.log_context import note_object
from diffusion_operator.reconcile.mirror import Mirror, Owner
from diffusion_operator.reconcile.models import BUILT_IN, Models, ModelState
from diffusion_operator.reconcile.monitoring import MonitorKeeper
from diffusion_operator.reconcile.nodes_to_come import judged
from diffusion_operator.reconcile.observe import (
    Observation,
    PodView,
    ask,
    deployment_view,
    pod_views,
    read_reports,
)
from diffusion_operator.reconcile.own_writes import MirroringClient
from diffusion_operator.reconcile.sighting import Sighting, sighting
from diffusion_operator.reconcile.status import build_status
from diffusion_operator.reconcile.status_writer import StatusWriter
from diffusion_operator.render.children import render_children
from diffusion_operator.render.settings import RenderSettings

# Whoever waits is woken when GPUs come free; this is for what no event tells.
WAITING_RECHECK_S = 60.0
REPORT_RECHECK_S = 5.0
# Engines measure while they serve, and nothing in the cluster changes when they do. A look writes only what
# moved, and costs the API server at most one read (of a ServiceMonitor): with 1,000 deployments 4 a second.
MEASURED_RECHECK_S = 300.0


class Outdated(Exception):
    """The DiffusionDeployment has moved on since the pass began; the pass is to start over."""


@dataclass(frozen=True)
class Outcome:
    """When to look again unasked (None: only on a hint), and how the pass went, for metrics.

    `seen` is None when the object is gone.
    """

    recheck_after_s: float | None = None
    reason: str = "Ready"
    plan: str = "none"
    seen: Sighting | None = None


@dataclass(frozen=True)
class _Decided:
    """A decision that has been written. `own_pods` are this deployment's raw pods as it saw them."""

    decision: Decision
    own_pods: Sequence[JsonObject]
    found: Findings = field(default_factory=Findings)
    warnings: tuple[str, ...] = ()
    model: ModelState = BUILT_IN
    to_come: GroupDecision | None = None


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Reconciler:
    """Holds the collaborators; one instance serves all keys."""

    def __init__(
        self,
        client: KubeClient,
        mirror: Mirror,
        reports: ReportReader,
        settings: RenderSettings,
        *,
        instance: str = "diffusion-operator",
        terms: Terms = NO_TERMS,
        now: Callable[[], datetime] = utc_now,
        event_dropped: Callable[[str], None] = lambda _why: None,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._monitors = MonitorKeeper(client)  # of a kind that the mirror does not know
        client = MirroringClient(client, mirror)
        self._client = client
        self._mirror = mirror
        self._capacity = Capacity(mirror)
        self._reports = reports
        self._settings = settings
        self._terms = terms
        self._now = now
        self._writer = ChildWriter(client)
        self._models = Models(client, mirror, self._writer, settings, now, reports)
        self._status = StatusWriter(client)
        self.events = EventSender(client, instance, now, dropped=event_dropped, crowded=crowded)
        self.waiting: set[DeploymentKey] = set()

    def gpu_totals(self) -> tuple[GpuTotals, ...]:
        """The GPUs of the cluster, as the last decision found them."""
        return self._capacity.totals()

    async def reconcile(self, key: DeploymentKey) -> Outcome:
        """One pass. Raises ApiError when the API server gave no usable answer; the queue tries again."""
        dd = self._mirror.get(DIFFUSION_DEPLOYMENTS, key.namespace, key.name)
        if dd is None or "deletionTimestamp" in dd["metadata"]:
            # Children go through their owner references.
            self.waiting.discard(key)
            self._capacity.kept(_owner(key))
            return Outcome(reason="Gone")

        note_object(dd)
        if self._capacity.in_doubt(_owner(key)):
            await self._mirror.refresh_owner(self._client, DEPLOYMENTS, _owner(key))
            self._capacity.kept(_owner(key))
        children = children_of(self._mirror, dd)
        try:
            parsed = DiffusionDeployment.parse(dd)
        except InvalidSpec as error:
            return await self._refuse(key, dd, children, _refusal_of(error))

        try:
            decided = await self._decide_and_write(dd, parsed, children)
        except InvalidSpec as error:
            return await self._refuse(key, dd, children, _refusal_of(error))
        except Invalid as error:
            refusal = Refusal("InvalidSpec", f"the API server refused a child: {error}", stalled=True)
            return await self._refuse(key, dd, children, refusal)
        except Forbidden as error:
            refusal = Refusal("Progressing", f"the operator lacks a permission: {error}", stalled=False)
            return await self._refuse(key, dd, children, refusal)
        return await self._report(key, dd, children, decided, parsed)

    async def _decide_and_write(
        self, raw: JsonObject, dd: DiffusionDeployment, children: Children
    ) -> _Decided:
        owner, own = (dd.namespace, dd.name), self._mirror.owned(PODS, (dd.namespace, dd.name))
        views = pod_views(own, self._now())
        current = with_stuck(current_groups(dd.name, children), views)
        history = _history(dd.name, raw, children)
        found = await self._look(dd, raw, current, views, history)
        model = await self._models.look(dd, children)
        if model.refusal is not None:
            return _Decided(Decision(refusal=model.refusal, history=history), own, found, model=model)
        # No await from the ledger to the promise: two deployments never take one GPU.
        ledger = self._capacity.ledger_for(dd.namespace)
        decision = decide(
            dd,
            ledger,
            current=current,
            engine_version=self._settings.engine_image,
            terms=self._terms,
            history=history,
            evidence=found.evidence,
            facts=model.facts,
            mounts=model.mounts,
        )
        decided = _Decided(decision, own, found, model=model)
        if decision.refusal is not None and not decision.groups:
            # What serves keeps serving until something can take its place.
            return decided
        if not self._models.is_there(dd, children, decision.groups):
            # No GPU is asked for, and none is promised, before the files are there.
            first = decision.groups[0]
            model = await self._models.bring(dd, children, first, model)
            waits = Decision(refusal=model.refusal, history=history)
            return _Decided(waits, own, found, model=model, to_come=first)
        manifests = render_children(dd, decision, self._settings)
        if dd.spec.suspend:
            manifests = [manifest for manifest in manifests if manifest["kind"] != DEPLOYMENTS.kind]
        self._capacity.promise(
            owner, [parse_deployment(one) for one in manifests if one["kind"] == DEPLOYMENTS.kind]
        )
        try:
            if decision.history != history:
                await self._remember(raw, decision.history)
            await self._write(
                dd, children, manifests, (*needed_config_maps(dd.name, decision.history), *model.kept)
            )
            await self._models.settle(dd, children, decision.groups[0])
        except (Conflict, Forbidden, Invalid, InvalidSpec, NotFound, ChildLeaving, Outdated):
            self._capacity.kept(owner)  # refused, so nothing was written that the mirror does not show
            raise
        except BaseException:
            self._capacity.doubt(owner)
            raise
        self._capacity.kept(owner)
        warning = await self._monitors.keep(dd)
        return replace(decided, warnings=(warning,)) if warning else decided

    async def _look(
        self,
        dd: DiffusionDeployment,
        raw: JsonObject,
        current: tuple[CurrentGroup, ...],
        views: tuple[PodView, ...],
        history: History,
    ) -> Findings:
        """What the pods say of the present plans; asks engines only where their loading decides something."""
        now, deadline_s = self._now(), deadline_seconds(dd.spec)
        overdue = overdue_pods(current, views, history, deadline_s, now)
        if overdue:
            told, _ = await ask(self._reports, overdue)
            views = with_progress(views, told, now)
        return findings(current, views, history, raw.get("status") or {}, deadline_s, now)

    async def _remember(self, raw: JsonObject, history: History) -> None:
        """Before the children: once they are changed, nothing shows any more that a plan failed."""
        status = {**(raw.get("status") or {}), "history": history_status(history)}
        if "conditions" in status:
            await self._status.write(raw, status)
            raw["status"] = status

    async def _write(
        self,
        dd: DiffusionDeployment,
        children: Children,
        manifests: list[JsonObject],
        needed_plans: Sequence[str],
    ) -> None:
        if self._writer.changes_serving(children, manifests):
            await self._require_unmoved(dd)
        await self._writer.apply(children, manifests)
        await self._writer.remove(children, unwanted_policies(children, manifests))
        wanted = [
            manifest["metadata"]["name"] for manifest in manifests if manifest["kind"] == DEPLOYMENTS.kind
        ]
        views = {view.name: view for view in map(deployment_view, children.deployments)}
        if all(views[name].settled for name in wanted):
            # A group that is no longer used serves until the groups that replace it do.
            await self._writer.remove(children, unwanted_deployments(children, manifests))
        await self._writer.remove(children, unused_plans(children, manifests, needed_plans))

    async def _require_unmoved(self, dd: DiffusionDeployment) -> None:
        """Before pods that serve are touched, the wish is read: watches may be late, and lists stale."""
        try:
            live = await self._client.get(DIFFUSION_DEPLOYMENTS, dd.name, dd.namespace)
        except NotFound as error:
            self._mirror.forget(DIFFUSION_DEPLOYMENTS, dd.namespace, dd.name, dd.uid)
            raise Outdated(f"{dd.key} is gone") from error
        metadata = live["metadata"]
        if (metadata["uid"], metadata.get("generation")) != (dd.uid, dd.generation):
            self._mirror.put(DIFFUSION_DEPLOYMENTS, live)
            raise Outdated(f"{dd.key} is at generation {metadata.get('generation')}, not {dd.generation}")

    async def _refuse(
        self, key: DeploymentKey, dd: JsonObject, children: Children, refusal: Refusal
    ) -> Outcome:
        """Say why the spec cannot be followed; no child is touched."""
        pods = self._mirror.owned(PODS, _owner(key))
        refused = Decision(refusal=refusal, history=_history(key.name, dd, children))
        return await self._report(key, dd, children, _Decided(refused, pods), None)

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
        refusal, patience_s = judged(decided.decision.refusal, pods, now)
        history = with_ready(
            decided.decision.history, decided.decision.groups, observation, self._settings.engine_image
        )
        situation = Situation(
            observation=observation,
            groups=decided.decision.groups,
            refusal=refusal,
            wish=intent_hash(parsed, "") if parsed else "",
            progressing=decided.found.progressing,
            suspended=bool(parsed and parsed.spec.suspend),
            wanted=parsed.spec.replicas if parsed else 1,
            model=ModelCondition(decided.model.cached, decided.model.reason, decided.model.message),
            to_come=decided.to_come,
            warnings=decided.warnings,
        )
        status = build_status(dd, situation, port=_service_port(children), now=now, history=history)
        before = dd.get("status") or {}
        await self._status.write(dd, status)
        # After the status: where it could not be written, the next pass finds the same change.
        for change in changes(before, status):
            self.events.post(dd, change)
        later = (patience_s, decided.found.recheck_after_s, decided.model.recheck_after_s)
        seen = sighting(status, situation.groups, reports)
        return self._outcome(key, situation, status, later, seen)

    def _outcome(
        self,
        key: DeploymentKey,
        situation: Situation,
        status: JsonObject,
        deadlines_s: Sequence[float | None],
        seen: Sighting,
    ) -> Outcome:
        conditions = {condition["type"]: condition for condition in status["conditions"]}
        refusal, observation = situation.refusal, situation.observation
        short = refusal is not None or conditions["Degraded"]["status"] == "True"
        unschedulable = any(pod.problem and pod.problem.reason == "Unschedulable" for pod in observation.pods)
        if short or unschedulable:
            self.waiting.add(key)
        else:
            self.waiting.discard(key)
        later = (*deadlines_s, *(pod.recheck_after_s for pod in observation.pods))
        rechecks = [seconds for seconds in later if seconds is not None]
        if observation.unread:
            rechecks.append(REPORT_RECHECK_S)
        if observation.reports:
            # Jitter, so that those that a resync looked at together do not stay in step.
            rechecks.append(MEASURED_RECHECK_S * random.uniform(0.85, 1.15))  # noqa: S311 no secret
        if unschedulable or (refusal is not None and not refusal.stalled):
            rechecks.append(WAITING_RECHECK_S)
        plan = "refused" if not situation.groups else "planned" if refusal is None else "partial"
        return Outcome(min(rechecks, default=None), conditions["Ready"]["reason"], plan, seen)


def _history(name: str, raw: JsonObject, children: Children) -> History:
    return read_history(
        raw.get("status") or {}, lambda group, plan: plan_document(name, group, plan, children)
    )


def _owner(key: DeploymentKey) -> Owner:
    return key.namespace, key.name


def _refusal_of(error: InvalidSpec) -> Refusal:
    return Refusal("InvalidSpec", str(error), stalled=True, field=error.field)


def _service_port(children: Children) -> int | None:
    for (kind, _), live in children.objects.items():
        if kind == SERVICES.kind:
            ports = live.get("spec", {}).get("ports") or [{}]
            return int(ports[0].get("port", 80))
    return None
