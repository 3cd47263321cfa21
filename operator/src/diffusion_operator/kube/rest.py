"""The real client: `kubernetes.aio` for configuration, credentials and TLS, raw JSON for everything else.

No typed models and no discovery. It retries only what the server asked to be retried (Retry-After) and lost
connections; all else goes back to the caller as a typed error.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client import ApiClient, Configuration

from diffusion_operator.api.names import FIELD_MANAGER
from diffusion_operator.kube import decoding
from diffusion_operator.kube.client import ListTaker
from diffusion_operator.kube.errors import ApiError, Gone, NotFound, Unreachable, error_from_answer
from diffusion_operator.kube.resources import (
    ACCESS_REVIEWS,
    EVENTS,
    JsonObject,
    Resource,
    resource_of,
)
from diffusion_operator.kube.throttle import TokenBucket

# With a parameter the library sends our text as it is; without, it would escape it once more.
APPLY = "application/apply-patch+yaml; charset=utf-8"
# A JSON escape of half a character, which YAML does not know; an escaped backslash comes first.
_ASTRAL = re.compile(r"\\\\|\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}")
ATTEMPTS = 4
LONGEST_RETRY_AFTER_S = 30.0

JsonObjects = list[JsonObject]
CallObserver = Callable[[str, str, int, float], None]  # verb, plural, status, seconds


@dataclass(frozen=True)
class ClientSettings:
    """How to reach the API server. `kubeconfig` None means the pod's own service account."""

    kubeconfig: str | None = None
    user_agent: str = "diffusion-operator"
    rate_per_s: float = 200.0
    burst: int = 400
    request_timeout_s: float = 30.0
    field_manager: str = FIELD_MANAGER


async def load_configuration(settings: ClientSettings) -> Configuration:
    """Credentials from the kubeconfig file or, without one, from the pod. Raises ConfigException."""
    configuration = Configuration()
    if settings.kubeconfig is not None:
        await kube_config.load_kube_config(
            config_file=settings.kubeconfig, client_configuration=configuration
        )
    else:
        kube_config.load_incluster_config(client_configuration=configuration)
    configuration.proxy = configuration.proxy or _proxy_from_environment(configuration.host)
    # Left on, the library looks for a proxy and reads ~/.netrc anew for every request, each in a thread.
    configuration.client_session_kwargs = {"trust_env": False}
    return configuration


def _proxy_from_environment(host: str) -> str | None:
    """What HTTPS_PROXY and NO_PROXY say of this address, as for every other client of the API server."""
    url = urlsplit(host)
    proxy = getproxies().get(url.scheme)
    return None if proxy is None or proxy_bypass(url.netloc) else proxy


class RestKubeClient:
    """Implements `KubeClient` over HTTP. Close it once, at the end.

    `check_write` runs right before every write is sent, each retry too, and raises when it must not be.
    """

    def __init__(
        self,
        configuration: Configuration,
        settings: ClientSettings,
        *,
        observe_call: CallObserver = lambda _verb, _plural, _status, _seconds: None,
        check_write: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api = ApiClient(configuration)
        self._api.user_agent = settings.user_agent
        self._timeout = aiohttp.ClientTimeout(total=settings.request_timeout_s)
        self._field_manager = settings.field_manager
        self._bucket = TokenBucket(settings.rate_per_s, settings.burst, sleep=sleep)
        self._observe_call = observe_call
        self._check_write = check_write
        self._sleep = sleep

    async def close(self) -> None:
        """Close all connections."""
        await self._api.close()

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JsonObject:
        return await self._call("GET", resource, resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> JsonObjects:
        collected = _Collected()
        await self.list_into(
            collected, resource, namespace, label_selector=label_selector, field_selector=field_selector
        )
        return collected.items

    async def list_into(
        self,
        taker: ListTaker,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> str:
        query = {"limit": str(decoding.CHUNK)}
        if label_selector is not None:
            query["labelSelector"] = label_selector
        if field_selector is not None:
            query["fieldSelector"] = field_selector
        try:
            return await self._list_chunks(taker, resource, namespace, query)
        except Gone:
            # The continue token expired between two chunks; a fresh list is the only consistent answer.
            return await self._list_chunks(taker, resource, namespace, query)

    async def apply(self, manifest: JsonObject, *, force: bool = True) -> JsonObject:
        return await self._apply(manifest, subresource=None, force=force)

    async def apply_status(self, manifest: JsonObject) -> JsonObject:
        return await self._apply(manifest, subresource="status", force=True)

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        return await self._call(
            "POST",
            resource,
            resource.path(obj["metadata"]["namespace"]),
            query={"fieldManager": self._field_manager},
            body=obj,
        )

    async def replace(self, resource: Resource, obj: JsonObject) -> JsonObject:
        """PUT of a whole object at the resourceVersion it carries. Raises Conflict when that has moved."""
        metadata = obj["metadata"]
        path = resource.path(metadata["namespace"], metadata["name"])
        return await self._call("PUT", resource, path, body=obj)

    async def delete(self, resource: Resource, name: str, namespace: str, *, uid: str) -> None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        try:
            await self._call("DELETE", resource, resource.path(namespace, name), body=options)
        except NotFound:
            return

    async def create_event(self, event: JsonObject) -> None:
        await self._call("POST", EVENTS, EVENTS.path(event["metadata"]["namespace"]), body=event)

    async def repeat_event(self, namespace: str, name: str, series: JsonObject) -> None:
        await self._call(
            "PATCH",
            EVENTS,
            EVENTS.path(namespace, name),
            body={"series": series},
            content_type="application/merge-patch+json",
        )

    async def allowed(
        self, verb: str, resource: Resource, *, namespace: str | None = None, subresource: str | None = None
    ) -> bool:
        """Ask the API server whether our own account may do this."""
        attributes = {"verb": verb, "group": resource.group, "resource": resource.plural}
        if namespace is not None and resource.namespaced:
            attributes["namespace"] = namespace
        if subresource is not None:
            attributes["subresource"] = subresource
        review = {
            "apiVersion": ACCESS_REVIEWS.api_version,
            "kind": ACCESS_REVIEWS.kind,
            "spec": {"resourceAttributes": attributes},
        }
        answer = await self._call("POST", ACCESS_REVIEWS, ACCESS_REVIEWS.path(), body=review)
        return bool(answer.get("status", {}).get("allowed"))

    async def serves(self, resource: Resource) -> bool:
        """Whether discovery names this kind: what a watch library asks before it watches."""
        path = f"/apis/{resource.group}/{resource.version}"
        groups = (await self._call("GET", resource, "/apis")).get("groups") or []
        if all(group.get("name") != resource.group for group in groups):
            return False
        try:
            known = (await self._call("GET", resource, path)).get("resources") or []
        except NotFound:
            return False
        return any(one.get("name") == resource.plural for one in known)

    async def _apply(self, manifest: JsonObject, subresource: str | None, *, force: bool) -> JsonObject:
        resource = resource_of(manifest)
        metadata = manifest["metadata"]
        return await self._call(
            "PATCH",
            resource,
            resource.path(metadata.get("namespace"), metadata["name"], subresource),
            query={"fieldManager": self._field_manager, "force": "true" if force else "false"},
            body=manifest,
            content_type=APPLY,
        )

    async def _list_chunks(
        self, taker: ListTaker, resource: Resource, namespace: str | None, query: dict[str, str]
    ) -> str:
        taker.begin()
        token = ""
        while True:
            page = await self._call(
                "GET",
                resource,
                resource.path(namespace),
                query=query | ({"continue": token} if token else {}),
            )
            taker.take(page.get("items") or [])
            metadata = page.get("metadata") or {}
            token = metadata.get("continue") or ""
            if not token:
                return str(metadata.get("resourceVersion", ""))

    async def _call(
        self,
        method: str,
        resource: Resource,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: JsonObject | None = None,
        content_type: str = "application/json",
    ) -> JsonObject:
        target = f"{path}?{urlencode(query)}" if query else path
        for attempt in range(1, ATTEMPTS + 1):
            await self._bucket.take()
            if method != "GET" and resource is not ACCESS_REVIEWS:
                # Here and not in the caller: waits for the bucket and for retries lie between.
                self._check_write()
            try:
                return await self._once(method, resource, path, target, body, content_type)
            except ApiError as error:
                delay_s = _delay_before_retry(error, attempt)
                if delay_s is None:
                    raise
                await self._sleep(delay_s)
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def _once(
        self,
        method: str,
        resource: Resource,
        path: str,
        target: str,
        body: JsonObject | None,
        content_type: str,
    ) -> JsonObject:
        headers = {"Accept": "application/json", "Content-Type": content_type}
        sent = yaml_text(body) if content_type == APPLY and body is not None else body
        # Not the body: it is plain JSON, and the library would walk through all of it in search of models.
        _, url, headers, _, _ = await self._api.param_serialize(
            method, target, header_params=headers, auth_settings=["BearerToken"]
        )
        status, started_s = 0, time.monotonic()
        try:
            answer = await self._api.call_api(method, url, headers, sent, _request_timeout=self._timeout)
            status = answer.status
            content = await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unreachable(f"{method} {path}: no answer: {type(error).__name__}: {error}") from error
        finally:
            self._observe_call(method, resource.plural, status, time.monotonic() - started_s)
        if not 200 <= status <= 299:
            raise error_from_answer(
                f"{method} {path}", status, content, _retry_after(answer.headers.get("Retry-After"))
            )
        return _json_object(f"{method} {path}", content)


class _Collected:
    """A whole list."""

    def __init__(self) -> None:
        self.items: JsonObjects = []

    def begin(self) -> None:
        self.items = []

    def take(self, items: JsonObjects) -> None:
        self.items += items


def yaml_text(body: JsonObject) -> str:
    """JSON that a YAML parser reads alike: the API server reads an apply as YAML.

    JSON writes a character beyond U+FFFF as two escapes, which YAML refuses; it is written itself.
    """

    def whole(match: re.Match[str]) -> str:
        found = match[0]
        return found if found == r"\\" else str(json.loads(f'"{found}"'))

    return _ASTRAL.sub(whole, json.dumps(body))


def _delay_before_retry(error: ApiError, attempt: int) -> float | None:
    """Seconds to wait before the next attempt, or None to give the error to the caller."""
    if attempt == ATTEMPTS:
        return None
    if isinstance(error, Unreachable):
        return 0.2 * 2.0 ** (attempt - 1)
    if error.status in (429, 503) and error.retry_after_s is not None:
        return error.retry_after_s if error.retry_after_s <= LONGEST_RETRY_AFTER_S else None
    return None


def _retry_after(header: str | None) -> float | None:
    """Kubernetes sends whole seconds; a date or nonsense counts as absent."""
    try:
        return max(0.0, float(header)) if header is not None else None
    except ValueError:
        return None


def _json_object(request: str, content: bytes) -> JsonObject:
    try:
        answer = decoding.parse(content)
    except ValueError as error:
        raise Unreachable(f"{request}: the answer is not whole JSON ({len(content)} bytes)") from error
    if not isinstance(answer, dict):
        raise Unreachable(f"{request}: the answer is JSON but no object")
    return answer
