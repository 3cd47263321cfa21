"""The only file that knows kopf: watch events become keys on our queue, and nothing else happens here.

kopf is transport. No stateful handler, index, timer, peering, webhook or finalizer is used: with `on.event`
alone it sends no write request. The settings and their reasons were measured on 1.45.2.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import kopf

from diffusion_operator.api.names import API_GROUP, FIELD_MANAGER, LABEL_DEPLOYMENT, LABEL_MANAGED_BY
from diffusion_operator.kube.resources import (
    CHILD_RESOURCES,
    DIFFUSION_DEPLOYMENTS,
    GPU_NODES,
    NODES,
    PODS,
    Resource,
)
from diffusion_operator.kube.rest import ClientSettings, load_configuration
from diffusion_operator.reconcile.keys import CAPACITY, DeploymentKey, Key

OURS = f"{LABEL_MANAGED_BY}={FIELD_MANAGER}"
SHUTDOWN_S = 15.0
# Never set by us. With kopf's own name it would strip the finalizers of other kopf operators.
UNUSED_FINALIZER = f"{API_GROUP}/never-used-by-this-operator"

AddKey = Callable[[Key], None]


async def watch(
    add: AddKey,
    client_settings: ClientSettings,
    namespaces: Sequence[str],
    *,
    started: asyncio.Event,
) -> None:
    """Watch until cancelled. Raises when a watch stream dies, so that the process can end and start anew.

    `started` is set when kopf is up and has installed its signal handlers, before the first list. At its end
    kopf cancels every task that is younger than itself: start what must survive it before.
    """
    await kopf.operator(
        registry=build_registry(add, client_settings),
        settings=build_settings(),
        standalone=True,
        # Unused without peering, but kopf would otherwise ask for a user name that uid 10001 does not have.
        identity=FIELD_MANAGER,
        clusterwide=not namespaces,
        namespaces=list(namespaces),
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
    settings.watching.chunk_size = 500
    for resource in (PODS, *CHILD_RESOURCES):
        settings.watching.label_selectors[resource.plural] = OURS
    settings.networking.request_timeout = 30
    settings.networking.enforce_retry_after = True
    settings.process.ultimate_exiting_timeout = SHUTDOWN_S
    return settings


def build_registry(add: AddKey, client_settings: ClientSettings) -> kopf.OperatorRegistry:
    """One `on.event` handler per watched resource, and the login."""
    registry = kopf.OperatorRegistry()
    _on_event(registry, DIFFUSION_DEPLOYMENTS, deployment_hints(add))
    _on_event(registry, NODES, node_hints(add))
    _on_event(registry, GPU_NODES, gpu_node_hints(add))
    _on_event(registry, PODS, pod_hints(add))
    for resource in CHILD_RESOURCES:
        _on_event(registry, resource, child_hints(add))

    async def log_in(**_: Any) -> kopf.ConnectionInfo:
        return await connection(client_settings)

    kopf.on.login(registry=registry)(log_in)
    return registry


def deployment_hints(add: AddKey) -> Callable[[str | None, Mapping[str, Any]], None]:
    """A DiffusionDeployment changed; one that is gone may have freed GPUs."""

    def hint(event: str | None, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        add(DeploymentKey(metadata["namespace"], metadata["name"]))
        if event == "DELETED":
            add(CAPACITY)

    return hint


def node_hints(add: AddKey) -> Callable[[str | None, Mapping[str, Any]], None]:
    """Something that placement reads changed on a node; heartbeats are passed over."""
    seen: dict[str, str] = {}

    def hint(event: str | None, body: Mapping[str, Any]) -> None:
        name = body["metadata"]["name"]
        if event == "DELETED":
            seen.pop(name, None)
            add(CAPACITY)
            return
        mark = _node_mark(body)
        if seen.get(name) != mark:
            seen[name] = mark
            add(CAPACITY)

    return hint


def gpu_node_hints(add: AddKey) -> Callable[[str | None, Mapping[str, Any]], None]:
    """A node agent reported: it does so only when something moved that matters to placement."""

    def hint(_event: str | None, _body: Mapping[str, Any]) -> None:
        add(CAPACITY)

    return hint


def pod_hints(add: AddKey) -> Callable[[str | None, Mapping[str, Any]], None]:
    """One of our pods changed; one that ended gives its GPUs back."""

    def hint(event: str | None, body: Mapping[str, Any]) -> None:
        _add_owner(add, body)
        if event == "DELETED" or (body.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            add(CAPACITY)

    return hint


def child_hints(add: AddKey) -> Callable[[str | None, Mapping[str, Any]], None]:
    """A child changed, by us or by hand."""

    def hint(_event: str | None, body: Mapping[str, Any]) -> None:
        _add_owner(add, body)

    return hint


async def connection(client_settings: ClientSettings) -> kopf.ConnectionInfo:
    """kopf's credentials, from the same place as the client's. Called again whenever the server says 401."""
    configuration = await load_configuration(client_settings)
    token = await configuration.get_api_key_with_prefix("BearerToken")
    scheme, _, credential = (token or "").rpartition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        username=configuration.username or None,
        password=configuration.password or None,
        scheme=(scheme or "Bearer") if credential else None,
        token=credential.strip() or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
    )


def _on_event(
    registry: kopf.OperatorRegistry,
    resource: Resource,
    hint: Callable[[str | None, Mapping[str, Any]], None],
) -> None:
    async def handler(type: str | None, body: Mapping[str, Any], **_: Any) -> None:
        hint(type, body)

    register: Callable[..., Callable[[Callable[..., Awaitable[None]]], Any]] = kopf.on.event
    register(
        group=resource.group, version=resource.version, plural=resource.plural, id="hint", registry=registry
    )(handler)


def _add_owner(add: AddKey, body: Mapping[str, Any]) -> None:
    metadata = body["metadata"]
    owner = (metadata.get("labels") or {}).get(LABEL_DEPLOYMENT)
    if owner:
        add(DeploymentKey(metadata["namespace"], owner))


def _node_mark(body: Mapping[str, Any]) -> str:
    """All that placement reads of a node."""
    spec, status = body.get("spec") or {}, body.get("status") or {}
    ready = [c.get("status") for c in status.get("conditions") or () if c.get("type") == "Ready"]
    allocatable = {key: value for key, value in (status.get("allocatable") or {}).items() if "/" in key}
    parts = [
        dict(body["metadata"].get("labels") or {}),
        allocatable,
        [dict(taint) for taint in spec.get("taints") or ()],
        bool(spec.get("unschedulable")),
        ready,
    ]
    return json.dumps(parts, sort_keys=True, default=str)
