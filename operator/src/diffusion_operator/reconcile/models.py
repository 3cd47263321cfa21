"""Model facts and weights in the cluster: starts the two Jobs of a model and reads what they say.

Level-triggered like the story: what exists (a ConfigMap with facts, a Job that is complete) is all that is
remembered. It reads no Secret and no volume itself; a Job's pods tell their end in a termination message.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import ValidationError

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.names import FACTS_KEY
from diffusion_operator.inventory.objects import Pod
from diffusion_operator.inventory.selection import Mount
from diffusion_operator.inventory.volumes import Claim, Volume, mount_of
from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.reports import ReportReader, ReportUnavailable
from diffusion_operator.kube.resources import (
    CONFIG_MAPS,
    JOBS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    JsonObject,
)
from diffusion_operator.placement.decision import GroupDecision, Refusal
from diffusion_operator.placement.facts import (
    asked_revision,
    cache_claim,
    model_path_argument,
    needs_inspection,
    placed,
    pod_claims,
)
from diffusion_operator.placement.support import unsupported
from diffusion_operator.reconcile.children import Children, ChildWriter
from diffusion_operator.reconcile.jobs import JobView, job_view, mounts_model, outcome
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.render.model_jobs import (
    facts_name,
    fetch_job_name,
    inspect_job_name,
    render_facts,
    render_fetch,
    render_inspect,
)
from diffusion_operator.render.settings import RenderSettings
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.units import format_bytes

logger = logging.getLogger(__name__)

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
LOOK_EVERY_S = 15.0
# A status moves no oftener than that: by so many percent of the bytes, and at a look.
PROGRESS_STEP_PERCENT = 2
# After a Job has failed for good. A user's fault is tried again too: a token's rights change unseen.
RETRY_AFTER_S, RETRY_BAD_INPUT_AFTER_S = 120.0, 900.0


@dataclass(frozen=True)
class ModelState:
    """What is known of the model. `refusal`: nothing new may start; what serves goes on serving.

    `facts` None: the catalogue's. `cached` None: the pods fetch for themselves, so they tell.
    """

    cached: bool | None
    reason: str
    message: str
    facts: ModelFacts | None = None
    mounts: tuple[Mount, ...] = ()
    refusal: Refusal | None = None
    kept: tuple[str, ...] = ()
    """ConfigMaps that must stay."""
    recheck_after_s: float | None = None


BUILT_IN = ModelState(True, "Ready", "the model is part of the engine image")


class Models:
    """Holds the collaborators; one instance serves all keys."""

    def __init__(
        self,
        client: KubeClient,
        mirror: Mirror,
        writer: ChildWriter,
        settings: RenderSettings,
        now: Callable[[], datetime],
        reports: ReportReader,
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._writer = writer
        self._settings = settings
        self._now = now
        self._reports = reports

    async def look(self, dd: DiffusionDeployment, children: Children) -> ModelState:
        """Facts and volumes of the spec's model, or why there are none yet. Raises ApiError."""
        refused = unsupported(dd.spec)
        if refused is not None:
            return ModelState(False, refused.reason, refused.message)  # the decision refuses it
        found = {claim: self._mount(dd, claim) for claim in pod_claims(dd.spec)}
        missing = next((claim for claim, mount in found.items() if mount is None), None)
        if missing is not None:
            return no_such_claim(dd.namespace, missing)
        mounts = tuple(mount for mount in found.values() if mount)
        if dd.spec.model.source.built_in:
            await self._leave_only(children, ())
            return replace(BUILT_IN, mounts=mounts)
        facts = stored_facts(dd, children)
        if facts is None and not needs_inspection(dd.spec):
            return ModelState(False, "Suspended", "nothing is fetched while spec.suspend is true")
        if facts is None:
            state = await self._inspect(dd, children)
            if state is not None:
                return state
            facts = stored_facts(dd, children)
        return ModelState(
            *_condition(dd), facts=None if facts is None else placed(dd.spec, facts), mounts=mounts,
            kept=(facts_name(dd),),
        )  # fmt: skip

    def is_there(self, dd: DiffusionDeployment, children: Children, groups: Sequence[GroupDecision]) -> bool:
        """Whether pods of these groups find their files, or fetch them themselves."""
        if cache_claim(dd.spec) is None or dd.spec.suspend or not groups:
            return True
        job = children.objects.get((JOBS.kind, fetch_job_name(dd, groups[0])))
        return job is not None and outcome(job) == "done"

    async def bring(
        self, dd: DiffusionDeployment, children: Children, group: GroupDecision, state: ModelState
    ) -> ModelState:
        """Fetch into the cache; the state while it is not there yet."""
        name = fetch_job_name(dd, group)
        await self._leave_only(children, (name,))
        view = await self._job(children, name, lambda: render_fetch(dd, group, self._settings))
        what = f"fetching {_named(dd)} into claim {cache_claim(dd.spec)}"
        if view.pod_ip and not view.message:
            view = replace(view, message=await self._progress(view.pod_ip))
        return _of_job("FetchingModel", what, view, state.kept)

    async def _progress(self, pod_ip: str) -> str:
        """`40 % of 53.8GiB`; nothing before the first byte and while the pod does not answer."""
        try:
            seen = await self._reports.progress(pod_ip)
        except ReportUnavailable as error:
            logger.debug("no progress of a fetch: %s", error)
            return ""
        return progress_words(seen.bytes_done, seen.bytes_total)

    async def settle(self, dd: DiffusionDeployment, children: Children, group: GroupDecision) -> None:
        """Remove Jobs that an earlier spec left."""
        await self._leave_only(children, (fetch_job_name(dd, group),) if cache_claim(dd.spec) else ())

    async def _inspect(self, dd: DiffusionDeployment, children: Children) -> ModelState | None:
        """None when the facts are stored."""
        name = inspect_job_name(dd)
        await self._leave_only(children, (name,))
        unreadable = children.objects.get((CONFIG_MAPS.kind, facts_name(dd)))
        if unreadable is not None:
            await self._writer.remove(children, [(CONFIG_MAPS.kind, facts_name(dd))])
        view = await self._job(children, name, lambda: render_inspect(dd, self._settings))
        if dd.spec.model.source.image and not mounts_model(children.objects[JOBS.kind, name]):
            words = "this cluster's API server drops image volumes: enable its feature gate ImageVolume"
            return _waiting("InvalidSpec", words, stalled=True, recheck_s=RETRY_BAD_INPUT_AFTER_S)
        if view.state == "done":
            facts = _parsed(view.text)
            if facts is not None:
                await self._writer.apply(children, [render_facts(dd, view.text, facts.model.revision)])
                await self._leave_only(children, ())
                return None
            # Its pod is gone, or an engine of another version spoke.
            await self._writer.remove(children, [(JOBS.kind, name)])
            view = JobView("running", message="the answer could not be read; it is asked again")
        return _of_job("Inspecting", f"looking at {_named(dd)}", view, ())

    async def _job(self, children: Children, name: str, render: Callable[[], JsonObject]) -> JobView:
        """What the Job says. It is made when it does not exist, and again some time after it failed."""
        live = children.objects.get((JOBS.kind, name))
        if live is not None:
            namespace = live["metadata"]["namespace"]
            pods = await self._client.list(PODS, namespace, label_selector=f"{JOB_NAME_LABEL}={name}")
            view = job_view(live, pods)
            if view.state != "failed":
                return view
            left_s = _left_s(view, self._now())
            if left_s > 0:
                return view.in_seconds(left_s)
            await self._writer.remove(children, [(JOBS.kind, name)])
        # Never applied over: the template of a Job cannot be changed.
        await self._writer.apply(children, [render()])
        return JobView("running")

    async def _leave_only(self, children: Children, names: Sequence[str]) -> None:
        others = [key for key in children.objects if key[0] == JOBS.kind and key[1] not in names]
        await self._writer.remove(children, others)

    def _mount(self, dd: DiffusionDeployment, name: str) -> Mount | None:
        """None when there is no such claim."""
        found = self._mirror.view(PERSISTENT_VOLUME_CLAIMS, dd.namespace, name)
        if not isinstance(found, Claim):
            return None
        volume = self._mirror.view(PERSISTENT_VOLUMES, "", found.volume)
        pods = (entry.view for _, entry in self._mirror.entries(PODS) if isinstance(entry.view, Pod))
        return mount_of(found, volume if isinstance(volume, Volume) else None, pods)


def progress_words(done: int, total: int) -> str:
    """In whole steps, so that a status is written only when there is something to see."""
    if not total:
        return ""
    percent = min(done, total) * 100 // total
    return f"{percent - percent % PROGRESS_STEP_PERCENT} % of {format_bytes(total)}"


def no_such_claim(namespace: str, claim: str) -> ModelState:
    """The claim may still come."""
    return _waiting("ClaimNotFound", f"namespace {namespace} has no PersistentVolumeClaim {claim}")


def stored_facts(dd: DiffusionDeployment, children: Children) -> ModelFacts | None:
    """What an earlier inspection found for this source and revision; None if there is nothing readable."""
    live = children.objects.get((CONFIG_MAPS.kind, facts_name(dd)))
    return None if live is None else _parsed((live.get("data") or {}).get(FACTS_KEY, ""))


def _parsed(text: str) -> ModelFacts | None:
    try:
        return ModelFacts.model_validate_json(text)
    except ValidationError as error:
        logger.warning("these are no model facts: %s", error.errors(include_url=False)[0]["msg"])
        return None


def _condition(dd: DiffusionDeployment) -> tuple[bool | None, str, str]:
    """ModelCached once the facts are known and the files are where they belong."""
    source, claim = dd.spec.model.source, cache_claim(dd.spec)
    if source.pvc:
        return True, "Ready", f"the model is read from claim {source.pvc.claim_name}"
    if source.image:
        return True, "Ready", f"the kubelet mounts image {source.image.reference}"
    if dd.spec.suspend:
        return False, "Suspended", "nothing is fetched while spec.suspend is true"
    if claim:
        return True, "Ready", f"{_named(dd)} is in claim {claim}"
    return None, "Progressing", "each pod fetches the model into a volume of its own"


def _named(dd: DiffusionDeployment) -> str:
    """The source in words."""
    source = dd.spec.model.source
    if source.image:
        return f"image {source.image.reference}"
    if source.pvc:
        return f"folder {source.pvc.path or '/'} of claim {source.pvc.claim_name}"
    revision = asked_revision(dd.spec)
    return f"{model_path_argument(dd.spec)}{f' at {revision}' if revision else ''}"


def _of_job(reason: str, what: str, view: JobView, kept: tuple[str, ...]) -> ModelState:
    """The state while a Job has not done its work."""
    if view.state == "failed":
        words = f"{what} failed: {view.message}"
        return _waiting(view.reason, words, stalled=view.bad_input, kept=kept, recheck_s=view.retry_after_s)
    return _waiting(reason, f"{what}{f': {view.message}' if view.message else ''}", kept=kept)


def _waiting(
    reason: str,
    message: str,
    *,
    stalled: bool = False,
    kept: tuple[str, ...] = (),
    recheck_s: float | None = None,
) -> ModelState:
    return ModelState(
        False,
        reason,
        message,
        refusal=Refusal(reason, message, stalled=stalled, field="spec.model"),
        kept=kept,
        recheck_after_s=LOOK_EVERY_S if recheck_s is None else recheck_s,
    )


def _left_s(view: JobView, now: datetime) -> float:
    """Seconds until a failed Job is tried again."""
    wait_s = RETRY_BAD_INPUT_AFTER_S if view.bad_input else RETRY_AFTER_S
    return 0.0 if view.ended is None else (view.ended + timedelta(seconds=wait_s) - now).total_seconds()
