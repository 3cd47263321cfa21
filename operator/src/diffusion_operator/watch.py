"""The only file that knows kopf: its lists and events feed the mirror, and nothing else happens here.

kopf is transport: it lists, watches, resumes and starts over. Both reach the mirror on their way through the
session (`kube.listening`); the handlers say what to watch and get what the session does not take. No stateful
handler, index, timer, peering, webhook or finalizer is used: with `on.event` alone it sends no write request.
The settings and their reasons were measured on 1.45.2.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import kopf

from diffusion_operator.api.names import API_GROUP, FIELD_MANAGER
from diffusion_operator.kube.decoding import CHUNK
from diffusion_operator.kube.listening import listening_session
from diffusion_operator.kube.resources import (
    LABELLED,
    OURS_SELECTOR,
    PODS,
    UNFINISHED_SELECTOR,
    WATCHED,
    Resource,
)
from diffusion_operator.kube.rest import ClientSettings, load_configuration
from diffusion_operator.reconcile.streams import Streams

SHUTDOWN_S = 15.0
# Never set by us. With kopf's own name it would strip the finalizers of other kopf operators.
UNUSED_FINALIZER = f"{API_GROUP}/never-used-by-this-operator"


async def watch(streams: Streams, client_settings: ClientSettings, *, started: asyncio.Event) -> None:
    """Watch until cancelled. Raises when a watch stream dies, so that the process can end and start anew.

    `started` is set when kopf is up and has installed its signal handlers, before the first list. At its end
    kopf cancels every task that is younger than itself: start what must survive it before.
    """
    await kopf.operator(
        registry=build_registry(streams, client_settings),
        settings=build_settings(),
        standalone=True,
        # Unused without peering, but kopf would otherwise ask for a user name that uid 10001 does not have.
        identity=FIELD_MANAGER,
        clusterwide=True,  # GPUs are held by pods of any namespace
        ready_flag=started,
    )


def build_settings() -> kopf.OperatorSettings:
    """kopf's settings for an operator that only reads."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.persistence.finalizer = UNUSED_FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=f"kopf.{API_GROUP}")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=f"kopf.{API_GROUP}")
    settings.scanning.disabled = True  # no rights on CRDs and namespaces
    settings.watching.server_timeout = 300  # forces a rotation of the streams
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.inactivity_timeout = 70  # bookmarks come about every 60 s
    settings.watching.reconnect_backoff = 1.5
    settings.watching.chunk_size = CHUNK
    for resource in LABELLED:
        settings.watching.label_selectors[resource.plural] = OURS_SELECTOR
    settings.watching.field_selectors[PODS.plural] = UNFINISHED_SELECTOR
    settings.queueing.idle_timeout = 1.0  # until then each object's last event stays in memory
    settings.networking.request_timeout = 30
    settings.networking.enforce_retry_after = True
    settings.networking.error_backoffs = (1, 1, 2, 3, 5)  # then it lists anew, for as long as it takes
    settings.process.ultimate_exiting_timeout = SHUTDOWN_S
    return settings


def build_registry(streams: Streams, client_settings: ClientSettings) -> kopf.OperatorRegistry:
    """One `on.event` handler per watched resource, and the login."""
    registry = kopf.OperatorRegistry()
    for resource in WATCHED:
        _on_event(registry, resource, streams)

    async def log_in(**_: Any) -> kopf.AiohttpSession:
        # Called again whenever the server says 401, so a rotated token is read anew.
        configuration = await load_configuration(client_settings)
        session = await listening_session(configuration, streams)
        return kopf.AiohttpSession(server=configuration.host, aiohttp_session=session)

    kopf.on.login(registry=registry)(log_in)
    return registry


def _on_event(registry: kopf.OperatorRegistry, resource: Resource, streams: Streams) -> None:
    async def handler(event: dict[str, Any], **_: Any) -> None:
        streams.event(resource, event)

    register: Callable[..., Callable[[Callable[..., Awaitable[None]]], Any]] = kopf.on.event
    register(
        group=resource.group, version=resource.version, plural=resource.plural, id="feed", registry=registry
    )(handler)
