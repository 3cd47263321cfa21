"""Sends Events behind the reconciles: in order, slowly, and never at the cost of a status.

Events are best effort. What waits is lost when the process is killed; an orderly stop sends it first. What
the API server refuses, what it cannot be told in several attempts and what does not fit in the line is
dropped and counted.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import AlreadyExists, ApiError, ServerError, TooManyRequests, Unreachable
from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.kube.throttle import TokenBucket
from diffusion_operator.reconcile.events import Change, event_manifest, event_name

logger = logging.getLogger(__name__)

# A crowd of new deployments gets its children first; its Events follow at this pace.
EVENTS_PER_S = 10.0
EVENTS_AT_ONCE = 50
# And at this one while more deployments are due than are being worked on: four Events are half of what the
# status of a new deployment costs the API server, and nobody waits for them.
EVENTS_PER_S_IN_A_CROWD = 1.0
LONGEST_LINE = 5000
PAUSES_S = (1.0, 5.0)
REMEMBERED_EVENTS = 4096


@dataclass
class _Waiting:
    namespace: str
    manifest: JsonObject
    times: int = 1


class EventSender:
    """A line of Events with one sender. An Event that waits and happens again is sent once, as a series."""

    def __init__(
        self,
        client: KubeClient,
        instance: str,
        now: Callable[[], datetime],
        *,
        dropped: Callable[[str], None] = lambda _why: None,
        crowded: Callable[[], bool] = lambda: False,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._instance = instance
        self._now = now
        self._dropped = dropped
        self._crowded = crowded
        self._sleep = sleep
        self._line: OrderedDict[str, _Waiting] = OrderedDict()
        self._counts: OrderedDict[str, int] = OrderedDict()
        self._more = asyncio.Event()

    def __len__(self) -> int:
        """Events that wait."""
        return len(self._line)

    def post(self, dd: JsonObject, change: Change) -> None:
        """Put the change of this DiffusionDeployment at the end of the line."""
        metadata, name = dd["metadata"], event_name(dd["metadata"], change)
        waiting = self._line.get(name)
        if waiting is not None:
            waiting.times += 1
            return
        if len(self._line) >= LONGEST_LINE:
            self._drop("lineFull", f"{change.reason} of {metadata['namespace']}/{metadata['name']}")
            return
        manifest = event_manifest(metadata, name, change, self._instance, self._stamp())
        self._line[name] = _Waiting(metadata["namespace"], manifest)
        self._more.set()

    async def run(self) -> None:
        """Send what comes, until cancelled."""
        monotonic = asyncio.get_running_loop().time
        bucket = TokenBucket(EVENTS_PER_S, EVENTS_AT_ONCE, monotonic=monotonic, sleep=self._sleep)
        while True:
            await self._more.wait()
            await bucket.take()
            if self._crowded():
                await self._sleep(1 / EVENTS_PER_S_IN_A_CROWD)
            await self._send_first()

    async def flush(self) -> None:
        """Send all that waits, at the client's own pace."""
        while self._line:
            await self._send_first()

    async def end(self, limit_s: float) -> None:
        """The same within `limit_s`, at the end of the process when `run` has ended; the rest is dropped."""
        try:
            async with asyncio.timeout(limit_s):
                await self.flush()
        except TimeoutError:
            for name in self._line:
                self._drop("stopped", name)

    async def _send_first(self) -> None:
        name, waiting = self._line.popitem(last=False)
        if not self._line:
            self._more.clear()
        try:
            await self._send(name, waiting)
        except asyncio.CancelledError:
            self._put_back(name, waiting)
            raise

    def _put_back(self, name: str, waiting: _Waiting) -> None:
        again = self._line.get(name)
        waiting.times += again.times if again is not None else 0
        self._line[name] = waiting
        self._line.move_to_end(name, last=False)
        self._more.set()

    async def _send(self, name: str, waiting: _Waiting) -> None:
        for pause_s in (*PAUSES_S, None):
            try:
                await self._write(name, waiting)
            except (Unreachable, ServerError, TooManyRequests) as error:
                if pause_s is None:
                    self._drop("noAnswer", f"{name}: {error}")
                else:
                    await self._sleep(pause_s)
            except ApiError as error:
                self._drop("refused", f"{name}: {error}")
                return
            else:
                return

    async def _write(self, name: str, waiting: _Waiting) -> None:
        known, count = self._counts.get(name, 0), waiting.times
        try:
            await self._client.create_event(waiting.manifest)
        except AlreadyExists:
            count = max(2, known + count)
        if count > 1:
            series = {"count": count, "lastObservedTime": waiting.manifest["eventTime"]}
            await self._client.repeat_event(waiting.namespace, name, series)
        self._remember(name, count)

    def _remember(self, name: str, count: int) -> None:
        self._counts.pop(name, None)
        self._counts[name] = count
        if len(self._counts) > REMEMBERED_EVENTS:
            self._counts.popitem(last=False)

    def _drop(self, why: str, words: str) -> None:
        self._dropped(why)
        logger.warning("event dropped (%s): %s", why, words)

    def _stamp(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
