"""Feeds the mirror from what the watches bring, and notices a watch that has gone silent.

A healthy stream carries a bookmark about once a minute even when nothing happens. One that carries nothing
for longer is listed by hand, again and again until it speaks; when nobody answers for minutes, the process is
unwell. A server that answers and refuses (a right is missing, a definition is gone) is only spoken of: a
restart would change nothing, and the watch goes on by itself when the server allows it again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import ApiError, Unauthorized, Unreachable
from diffusion_operator.kube.resources import GPU_NODES, WATCHED, JsonObject, Resource
from diffusion_operator.reconcile.mirror import Mirror

logger = logging.getLogger(__name__)

SILENT_AFTER_S = 75.0
LOOK_EVERY_S = 5.0
# Longer than an API server's usual absence: a restart of the operator would not bring that back sooner.
UNWELL_AFTER_S = 300.0
SAY_EVERY_S = 30.0
TOO_OLD = 410  # a stream's usual end after a pause; the list that follows mends it
MEANING = {
    403: "the operator's role does not allow it",
    404: "the API server does not know this kind; is its custom resource definition installed?",
}


class Streams:
    """Listens to the lists and streams of all watches. Times are this process's own."""

    def __init__(self, mirror: Mirror, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._mirror = mirror
        self._monotonic = monotonic
        self._by_path = {resource.path(): resource for resource in WATCHED}
        self._listings = {resource: mirror.listing(resource) for resource in WATCHED}
        self._heard_s = dict.fromkeys(WATCHED, monotonic())
        self._failing: dict[Resource, tuple[float, str]] = {}
        self._refused: dict[Resource, str] = {}
        self._said_s: dict[Resource, float] = {}

    def chunk(self, path: str, items: list[JsonObject], *, first: bool) -> bool:
        """A watch lists its collection, at its start or after a gap; these are the next of its objects."""
        resource = self._by_path.get(path)
        if resource is None:
            return False
        if first:
            self._listings[resource].begin()
        self._listings[resource].take(items)
        return True

    def listed(self, path: str, version: str) -> None:
        """That was the last chunk."""
        resource = self._by_path[path]
        behind = self._mirror.is_behind(resource, version)
        self._listings[resource].end(version)
        self._alive(resource)
        if behind:
            # Overtaken by a list that began later, or the store went back: a list by hand tells which.
            self._heard_s[resource] = -SILENT_AFTER_S

    def told(self, path: str, event: dict[str, Any]) -> bool:
        """A stream carried an event; a bug of ours costs this one event and not the watch."""
        resource = self._by_path.get(path)
        if resource is None:
            return False
        try:
            self.event(resource, event)
        except Exception:
            logger.exception("bug in the operator, please report it: an event of %s is lost", path)
        return True

    def heard(self, path: str) -> None:
        """A stream carried an event or a bookmark."""
        resource = self._by_path.get(path)
        if resource is not None:
            self._alive(resource)

    def refused(self, path: str, status: int, message: str) -> bool:
        """A list or a stream of a watch was answered with an error; the watch asks again by itself."""
        resource = self._by_path.get(path)
        if resource is None:
            return False
        no_agents = resource is GPU_NODES and status == 404
        if status != TOO_OLD and not no_agents:
            self._say_refused(resource, f"{message}: {MEANING[status]}" if status in MEANING else message)
        return True

    def refusals(self) -> list[str]:
        """What the API server refuses at present, in words."""
        return [f"{resource.plural}: {words}" for resource, words in self._refused.items()]

    def event(self, resource: Resource, event: dict[str, Any]) -> None:
        """A watch event; type None stands for an object of a list."""
        if event["type"] == "DELETED":
            self._mirror.drop(resource, event["object"])
        else:
            self._mirror.put(resource, event["object"])

    def problem(self) -> str | None:
        """Why this process should be restarted, or None."""
        for resource, (since_s, error) in self._failing.items():
            failing_s = self._monotonic() - since_s
            if failing_s >= UNWELL_AFTER_S:
                return (
                    f"the watch of {resource.plural} is silent and lists fail for {failing_s:.0f} s: {error}"
                )
        return None

    async def mend(self, client: KubeClient) -> None:
        """List what has been silent for too long."""
        for resource in WATCHED:
            silent_s = self._monotonic() - self._heard_s[resource]
            if silent_s < SILENT_AFTER_S:
                continue
            try:
                await self._mirror.refresh(client, [resource])
            except (Unreachable, Unauthorized) as error:
                since_s, _ = self._failing.get(resource, (self._monotonic(), ""))
                self._failing[resource] = (since_s, str(error))
                logger.warning("the watch of %s is silent and cannot be listed: %s", resource.plural, error)
            except ApiError as error:
                self._failing.pop(resource, None)
                self.refused(resource.path(), error.status, str(error))
            else:
                logger.warning("the watch of %s was silent for %.0f s; listed", resource.plural, silent_s)
                self._alive(resource)

    def _alive(self, resource: Resource) -> None:
        self._heard_s[resource] = self._monotonic()
        self._failing.pop(resource, None)
        if self._refused.pop(resource, None) is not None:
            self._said_s.pop(resource)
            logger.info("the watch of %s goes on", resource.plural)

    def _say_refused(self, resource: Resource, words: str) -> None:
        """Now and then: every attempt would be dozens of lines a minute."""
        self._refused[resource] = words
        now_s = self._monotonic()
        if now_s - self._said_s.get(resource, -SAY_EVERY_S) >= SAY_EVERY_S:
            self._said_s[resource] = now_s
            logger.error("the watch of %s is refused: %s", resource.plural, words)


async def mend_silent_watches(
    client: KubeClient, streams: Streams, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Look every few seconds, until cancelled."""
    while True:
        await sleep(LOOK_EVERY_S)
        await streams.mend(client)
