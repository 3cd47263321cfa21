"""Leader election with one Lease, so that of two replicas only one writes.

Fencing is by time, measured on this process's own monotonic clock and never by comparing wall clocks: a
holder counts as dead when its record has not changed for its whole duration since *we* first saw it so;
we count as leader until the renew deadline after the *start* of our last successful renewal. The deadline is
shorter than the duration, so a leader stops before anybody else can begin.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from diffusion_operator.kube.errors import ApiError, Conflict, NotFound, require_forward
from diffusion_operator.kube.resources import LEASES, JsonObject, Resource

logger = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Another process may lead now; this one must write nothing more and end."""


class LeaseApi(Protocol):
    """What the election needs of the client."""

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JsonObject: ...

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject: ...

    async def replace(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """PUT with the resourceVersion that `obj` carries. Raises Conflict when the live object has moved."""
        ...


@dataclass(frozen=True)
class LeaseSettings:
    """Where the Lease is, who we are, and the three times in seconds."""

    namespace: str
    identity: str
    name: str = "diffusion-operator"
    duration_s: float = 10.0
    renew_deadline_s: float = 7.0
    retry_s: float = 2.0


class Lease:
    """One candidate. `acquire`, then `keep` until it raises or is cancelled, then `release`."""

    def __init__(
        self,
        api: LeaseApi,
        settings: LeaseSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        utc_now: Callable[[], datetime] = lambda: datetime.now(UTC),
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._api = api
        self._settings = settings
        self._monotonic = monotonic
        self._sleep = sleep
        self._utc_now = utc_now
        self._uniform = uniform
        self._held_until_s: float | None = None
        self._record: JsonObject | None = None
        self._seen_version = ""
        self._newest_version = ""
        self._seen_since_s = 0.0

    def held(self) -> bool:
        """Whether a write may be sent now."""
        return self._held_until_s is not None and self._monotonic() < self._held_until_s

    def check(self) -> None:
        """Raise LeaseLost unless a write may be sent now."""
        if not self.held():
            raise LeaseLost(f"{self._settings.identity} does not hold the Lease {self._settings.name}")

    async def acquire(self) -> None:
        """Return once we are the leader. Errors of the API server are waited out; raises StoreWentBack."""
        while True:
            try:
                if await self._try_to_take():
                    logger.info("leading as %s", self._settings.identity)
                    return
            except (ApiError, TimeoutError) as error:
                logger.warning("cannot take the Lease: %s; again soon", str(error) or "no answer in time")
            # Jitter, so that two candidates do not ask in step.
            await self._sleep(self._settings.retry_s * self._uniform(0.8, 1.0))

    async def keep(self) -> None:
        """Renew every `retry_s`. Raises LeaseLost at the renew deadline, or at once when another leads.

        Raises StoreWentBack too: then another may lead from an old record.
        """
        while True:
            await self._sleep(min(self._settings.retry_s, self._left_s()))
            if not self.held():
                raise LeaseLost(
                    f"the Lease was not renewed for {self._settings.renew_deadline_s:.0f} s; "
                    "another replica may lead"
                )
            try:
                async with asyncio.timeout(self._left_s()):
                    await self._renew()
            except (ApiError, TimeoutError) as error:
                logger.warning("the Lease is not renewed: %s", str(error) or "no answer in time")

    async def release(self) -> None:
        """Let another replica lead at once. Call it when nothing writes any more; a failure is logged."""
        if not self.held():
            return
        self._held_until_s = None
        try:
            async with asyncio.timeout(self._settings.renew_deadline_s):
                await self._give_back()
        except (ApiError, TimeoutError) as error:
            logger.warning("the Lease is not released, it runs out by itself: %s", str(error) or "no answer")

    async def _give_back(self) -> None:
        try:
            await self._api.replace(LEASES, self._free(self._record or {}))
        except Conflict:
            # A renewal that was cancelled on its way has arrived all the same, or somebody else was here.
            live = await self._api.get(LEASES, self._settings.name, self._settings.namespace)
            if live["spec"].get("holderIdentity") == self._settings.identity:
                await self._api.replace(LEASES, self._free(live))

    def _free(self, live: JsonObject) -> JsonObject:
        """The record with nobody as its holder."""
        record = self._renewed(live)
        record["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
        return record

    async def _try_to_take(self) -> bool:
        started_s = self._monotonic()
        async with asyncio.timeout(self._settings.renew_deadline_s):
            try:
                live = await self._api.get(LEASES, self._settings.name, self._settings.namespace)
            except NotFound:
                answer = await self._api.create(LEASES, self._renewed({}))
            else:
                self._require_forward(live)
                if not self._is_free(live):
                    return False
                # Carries the resourceVersion that was judged free: of two that try, one gets a Conflict.
                answer = await self._api.replace(LEASES, self._renewed(live))
        self._won(answer, started_s)
        return True

    async def _renew(self) -> None:
        started_s = self._monotonic()
        try:
            answer = await self._api.replace(LEASES, self._renewed(self._record or {}))
        except (Conflict, NotFound):
            # Either an earlier renewal arrived although its answer was lost, or somebody else was here.
            live = await self._api.get(LEASES, self._settings.name, self._settings.namespace)
            self._require_forward(live)
            holder = live["spec"].get("holderIdentity")
            if holder != self._settings.identity:
                self._held_until_s = None
                raise LeaseLost(f"the Lease is held by {holder or 'nobody'}") from None
            answer = await self._api.replace(LEASES, self._renewed(live))
        self._won(answer, started_s)

    def _require_forward(self, live: JsonObject) -> None:
        """Both replicas look at the Lease every few seconds: here a restored store shows first."""
        version = str(live["metadata"].get("resourceVersion", ""))
        require_forward(f"Lease {self._settings.name}", self._newest_version, version)
        self._newest_version = version

    def _won(self, record: JsonObject, started_s: float) -> None:
        self._require_forward(record)
        self._record = record
        self._held_until_s = started_s + self._settings.renew_deadline_s

    def _left_s(self) -> float:
        return max(0.0, (self._held_until_s or 0.0) - self._monotonic())

    def _is_free(self, live: JsonObject) -> bool:
        """Nobody holds it, we hold it from before a restart, or it stood still for its whole duration."""
        version = str(live["metadata"].get("resourceVersion", ""))
        now_s = self._monotonic()
        if version != self._seen_version:
            self._seen_version, self._seen_since_s = version, now_s
        spec = live.get("spec") or {}
        if spec.get("holderIdentity") in (None, "", self._settings.identity):
            return True
        duration_s = float(spec.get("leaseDurationSeconds") or self._settings.duration_s)
        return now_s - self._seen_since_s >= duration_s

    def _renewed(self, live: JsonObject) -> JsonObject:
        """The record with us as its holder. Times in it are for people; nothing here reads them."""
        stamp = self._utc_now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = live.get("spec") or {}
        spec = {
            **before,
            "holderIdentity": self._settings.identity,
            "leaseDurationSeconds": round(self._settings.duration_s),
            "renewTime": stamp,
        }
        if before.get("holderIdentity") != self._settings.identity:
            spec["acquireTime"] = stamp
            spec["leaseTransitions"] = int(before.get("leaseTransitions") or 0) + bool(before)
        metadata = {"name": self._settings.name, "namespace": self._settings.namespace}
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": live.get("metadata") or metadata,
            "spec": spec,
        }
