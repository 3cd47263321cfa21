"""Feeds the mirror from what the watches bring, and notices a watch that has gone silent.

A healthy stream carries a bookmark about once a minute even when nothing happens. One that carries nothing
for longer is listed by hand, again and again until it speaks; when that fails for minutes, the process is
unwell.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import ApiError
from diffusion_operator.kube.resources import WATCHED, JsonObject, Resource
from diffusion_operator.reconcile.mirror import Mirror

logger = logging.getLogger(__name__)

SILENT_AFTER_S = 75.0
LOOK_EVERY_S = 5.0
# Longer than an API server's usual absence: a restart of the operator would not bring that back sooner.
UNWELL_AFTER_S = 300.0


class Streams:
    """Listens to the lists and streams of all watches. Times are this process's own."""

    def __init__(self, mirror: Mirror, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._mirror = mirror
        self._monotonic = monotonic
        self._by_path = {resource.path(): resource for resource in WATCHED}
        self._heard_s = dict.fromkeys(WATCHED, monotonic())
        self._failing: dict[Resource, tuple[float, str]] = {}

    def listed(self, path: str, items: list[JsonObject], version: str) -> bool:
        """A watch has listed its collection, at its start or after a gap."""
        resource = self._by_path.get(path)
        if resource is None:
            return False
        self._mirror.replace(resource, items, version)
        self._alive(resource)
        return True

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
            except ApiError as error:
                since_s, _ = self._failing.get(resource, (self._monotonic(), ""))
                self._failing[resource] = (since_s, str(error))
                logger.warning("the watch of %s is silent and cannot be listed: %s", resource.plural, error)
            else:
                logger.warning("the watch of %s was silent for %.0f s; listed", resource.plural, silent_s)
                self._alive(resource)

    def _alive(self, resource: Resource) -> None:
        self._heard_s[resource] = self._monotonic()
        self._failing.pop(resource, None)


async def mend_silent_watches(
    client: KubeClient, streams: Streams, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> None:
    """Look every few seconds, until cancelled."""
    while True:
        await sleep(LOOK_EVERY_S)
        await streams.mend(client)
