"""A small API server on loopback: chunked lists, watches, server-side apply, and faults on demand.

It records every request. It is no Kubernetes: no defaults, no validation, no garbage collection.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

JsonObject = dict[str, Any]
Right = tuple[str, str, str]  # group, resource or resource/subresource, verb
GROUPS: dict[str, list[tuple[str, str, bool]]] = {
    "v1": [
        ("nodes", "Node", False),
        ("pods", "Pod", True),
        ("services", "Service", True),
        ("configmaps", "ConfigMap", True),
        ("serviceaccounts", "ServiceAccount", True),
        ("resourcequotas", "ResourceQuota", True),
        ("persistentvolumeclaims", "PersistentVolumeClaim", True),
        ("persistentvolumes", "PersistentVolume", False),
        ("namespaces", "Namespace", False),
    ],
    "apps/v1": [("deployments", "Deployment", True), ("replicasets", "ReplicaSet", True)],
    "batch/v1": [("jobs", "Job", True)],
    "coordination.k8s.io/v1": [("leases", "Lease", True)],
    "policy/v1": [("poddisruptionbudgets", "PodDisruptionBudget", True)],
    "networking.k8s.io/v1": [("networkpolicies", "NetworkPolicy", True)],
    "monitoring.coreos.com/v1": [("servicemonitors", "ServiceMonitor", True)],
    "diffusion-operator.io/v1alpha1": [
        ("diffusiondeployments", "DiffusionDeployment", True),
        ("gpunodes", "GPUNode", False),
    ],
}


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    content_type: str
    body: Any
    headers: dict[str, str]


@dataclass
class FakeApi:
    """`objects` by URL path. `faults` are answered first, one per request: (status, headers) or "reset".

    `contested`: every object that exists has fields of another manager, so that only forced applies succeed.
    `missing`: plural names of kinds that are not installed, in discovery and in requests.
    With a `role`, what it does not allow is answered 403, as RBAC would; `used` and `refused` keep the rights
    that requests needed. A watch gets what happened since its resourceVersion; three events are orders to the
    server: CUT ends the stream, HALF ends it within a line, STATUS ends it and refuses the next one.
    """

    objects: dict[str, JsonObject] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    faults: deque[tuple[int, dict[str, str]] | str] = field(default_factory=deque)
    watching: dict[str, asyncio.Queue[JsonObject]] = field(default_factory=dict)
    history: dict[str, list[tuple[int, JsonObject]]] = field(default_factory=dict)
    refuse_next: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, tuple[str, list[JsonObject]]] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    version: int = 100
    url: str = ""
    denied: set[tuple[str, str]] = field(default_factory=set)
    role: frozenset[Right] | None = None
    used: set[Right] = field(default_factory=set)
    refused: set[Right] = field(default_factory=set)
    contested: bool = False
    missing: set[str] = field(default_factory=set)
    runner: web.AppRunner | None = None

    def put(self, collection: str, obj: JsonObject) -> JsonObject:
        """Store an object as if somebody had created it, and tell the watchers."""
        namespace, name = obj["metadata"].get("namespace"), obj["metadata"]["name"]
        root, plural = collection.rsplit("/", 1)
        path = f"{root}/namespaces/{namespace}/{plural}/{name}" if namespace else f"{collection}/{name}"
        event = "MODIFIED" if path in self.objects else "ADDED"
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        obj["metadata"].setdefault("uid", f"uid-{name}")
        self.objects[path] = obj
        self.tell(collection, event, obj)
        return obj

    def tell(self, collection: str, event: str, obj: JsonObject) -> None:
        """Send a watch event to whoever watches this collection."""
        said = {"type": event, "object": copy.deepcopy(obj)}
        version = str(obj.get("metadata", {}).get("resourceVersion", ""))
        if version.isdigit() and event != "BOOKMARK":
            self.history.setdefault(collection, []).append((int(version), said))
        if collection in self.watching:
            self.watching[collection].put_nowait(said)

    async def close(self) -> None:
        """Close the port and end open requests; a second call does nothing."""
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None

    def writes(self) -> list[Seen]:
        """Requests that could change something."""
        return [request for request in self.seen if request.method not in ("GET", "HEAD")]

    async def wait_for_request(self, wanted: Callable[[Seen], bool], more_than: int = 0) -> None:
        """Return once more than that many GET, PATCH, … requests of the kind have come."""
        async with self.changed:
            await self.changed.wait_for(lambda: sum(map(wanted, self.seen)) > more_than)

    async def wait_for_watches(self, *collections: str) -> None:
        """Return once each of these collections is being watched."""
        async with self.changed:
            await self.changed.wait_for(lambda: all(name in self.watching for name in collections))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """All requests come through here."""
        text = await request.text()
        body = json.loads(text) if text else None
        self.seen.append(
            Seen(
                request.method,
                request.path,
                dict(request.query),
                request.content_type,
                body,
                dict(request.headers),
            )
        )
        async with self.changed:
            self.changed.notify_all()
        if self.faults:
            fault = self.faults.popleft()
            if isinstance(fault, str):
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            status, headers = fault
            return _status(status, "fault asked for by the test", headers)
        if (found := _discovery(request.path)) is not None:
            kept = [one for one in found.get("resources", ()) if one["name"] not in self.missing]
            return web.json_response(found | {"resources": kept})
        if self.missing & set(request.path.split("/")):
            return _status(404, "the server could not find the requested resource", reason="NotFound")
        missing = self._missing_rights(request)
        if missing:
            group, resource, verb = sorted(missing)[0]
            return _status(403, f"cannot {verb} {resource} in group {group!r}", reason="Forbidden")
        if request.method == "GET":
            return await self._read(request)
        return self._write(request, body)

    def _missing_rights(self, request: web.Request) -> set[Right]:
        if self.role is None or request.path.endswith("/selfsubjectaccessreviews"):
            return set()
        needed = rights_of(request, exists=request.path.removesuffix("/status") in self.objects)
        missing = needed - self.role
        self.used |= needed
        self.refused |= missing
        return missing

    async def _read(self, request: web.Request) -> web.StreamResponse:
        if request.path in self.objects:
            return web.json_response(self.objects[request.path])
        if not _is_collection(request.path):
            return _status(404, f"{request.path} not found")
        if request.query.get("watch") == "true":
            return await self._watch(request)
        return self._list(request)

    def _list(self, request: web.Request) -> web.Response:
        """A list in chunks is of the moment of its first chunk, as a real API server's is."""
        _, plural = request.path.rsplit("/", 1)
        limit = int(request.query.get("limit", 10**9))
        key, _, start = request.query.get("continue", "").partition("/")
        version, found = self.snapshots[key] if key else (str(self.version), self._chosen(request))
        chunk, left = found[int(start or 0) :][:limit], len(found) - int(start or 0) - limit
        metadata = {"resourceVersion": version}
        if left > 0:
            key = key or f"list-{len(self.snapshots)}"
            self.snapshots[key] = version, found
            metadata["continue"] = f"{key}/{int(start or 0) + limit}"
        kind = next(k for names in GROUPS.values() for p, k, _ in names if p == plural)
        return web.json_response(
            {"apiVersion": "v1", "kind": f"{kind}List", "metadata": metadata, "items": chunk}
        )

    def _chosen(self, request: web.Request) -> list[JsonObject]:
        root, plural = request.path.rsplit("/", 1)
        return [
            copy.deepcopy(obj)
            for path, obj in sorted(self.objects.items())
            if path.rsplit("/", 2)[1] == plural and path.startswith(root) and _selected(request, obj)
        ]

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path in self.refuse_next:
            return _status(self.refuse_next.pop(path), "fault asked for by the test")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        events: asyncio.Queue[JsonObject] = asyncio.Queue()
        since = int(request.query.get("resourceVersion", self.version))
        for version, event in self.history.get(path, ()):
            if version > since:
                events.put_nowait(copy.deepcopy(event))
        self.watching[path] = events
        async with self.changed:
            self.changed.notify_all()
        try:
            while True:
                event = await events.get()
                if event["type"] in ("CUT", "HALF", "STATUS"):
                    if self.watching.get(path) is events:
                        del self.watching[path]
                    await self._end(request, response, event)
                    return response
                await response.write(json.dumps(event).encode() + b"\n")
                if event["type"] == "ERROR":
                    return response
        except ConnectionResetError:
            return response

    async def _end(self, request: web.Request, response: web.StreamResponse, event: JsonObject) -> None:
        """A stream ends: cleanly, in the middle of a line, or so that the next one is refused."""
        if event["type"] == "STATUS":
            self.refuse_next[request.path] = event["code"]
        elif event["type"] == "HALF":
            await response.write(b'{"type": "ADDED", "object": {"metadata": {"na')
            if event.get("reset") and request.transport is not None:
                request.transport.abort()

    def _write(self, request: web.Request, body: Any) -> web.Response:
        if request.path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            what = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            allowed = (asked["verb"], what) not in self.denied
            if self.role is not None:
                allowed = (asked["group"], what, asked["verb"]) in self.role
            return web.json_response({**body, "status": {"allowed": allowed}}, status=201)
        path = request.path.removesuffix("/status")
        if request.method == "DELETE":
            gone = self.objects.pop(path, None)
            return web.json_response(gone) if gone else _status(404, f"{path} not found")
        if request.method == "POST":
            path = f"{request.path}/{body['metadata']['name']}"
            if path in self.objects:
                return _status(409, f"{path} already exists", reason="AlreadyExists")
        if self.contested and request.query.get("force") == "false" and path in self.objects:
            return _status(409, f"{path}: conflict with another manager", reason="Conflict")
        if request.method == "PUT":
            live = self.objects.get(path, {"metadata": {"resourceVersion": "none"}})
            if live["metadata"]["resourceVersion"] != body["metadata"].get("resourceVersion"):
                return _status(409, f"{path} has been modified", reason="Conflict")
        self.version += 1
        stored = self.objects.setdefault(path, {"metadata": {"uid": f"uid-{path.rsplit('/', 1)[1]}"}})
        metadata = stored["metadata"] | body.get("metadata", {}) | {"resourceVersion": str(self.version)}
        stored.update(body | {"metadata": metadata})
        return web.json_response(copy.deepcopy(stored))


@asynccontextmanager
async def fake_api() -> AsyncIterator[FakeApi]:
    """A running server on a free loopback port; `url` says where."""
    api = FakeApi()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", api.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    api.runner = runner
    api.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        await api.close()


def kubeconfig(url: str) -> JsonObject:
    """A kubeconfig for the server, with a token."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "test",
        "clusters": [{"name": "test", "cluster": {"server": url}}],
        "users": [{"name": "test", "user": {"token": "not-a-real-token"}}],
        "contexts": [
            {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}
        ],
    }


def rights_of(request: web.Request, *, exists: bool) -> set[Right]:
    """What RBAC asks for a request; applying an object that is missing needs create beside patch."""
    parts = request.path.strip("/").split("/")
    group = parts[1] if parts[0] == "apis" else ""
    rest = parts[3:] if parts[0] == "apis" else parts[2:]
    if rest[0] == "namespaces" and len(rest) > 2:
        rest = rest[2:]
    resource, named = "/".join([rest[0], *rest[2:]]), len(rest) > 1
    if request.method == "GET":
        verbs = ["get" if named else "watch" if request.query.get("watch") == "true" else "list"]
    else:
        verbs = [{"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}[request.method]]
        if verbs == ["patch"] and not exists and "/" not in resource:
            verbs.append("create")
    return {(group, resource, verb) for verb in verbs}


def _selected(request: web.Request, obj: JsonObject) -> bool:
    selector = request.query.get("labelSelector")
    if not selector:
        return True
    labels = obj["metadata"].get("labels", {})
    return all(labels.get(key) == value for key, value in (part.split("=") for part in selector.split(",")))


def _is_collection(path: str) -> bool:
    return path.rsplit("/", 1)[1] in {plural for names in GROUPS.values() for plural, _, _ in names}


def _status(code: int, message: str, headers: dict[str, str] | None = None, reason: str = "") -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message, "reason": reason}
    return web.json_response(body, status=code, headers=headers)


def _discovery(path: str) -> JsonObject | None:
    """What kopf asks before it watches."""
    if path == "/version":
        return {"major": "1", "minor": "34"}
    if path == "/api":
        return {"versions": ["v1"]}
    if path == "/apis":
        groups = [group.split("/") for group in GROUPS if "/" in group]
        return {
            "groups": [
                {
                    "name": name,
                    "versions": [{"groupVersion": f"{name}/{version}", "version": version}],
                    "preferredVersion": {"groupVersion": f"{name}/{version}", "version": version},
                }
                for name, version in groups
            ]
        }
    group = path.removeprefix("/apis/").removeprefix("/api/")
    if group not in GROUPS:
        return None
    return {
        "kind": "APIResourceList",
        "groupVersion": group,
        "resources": [
            {
                "name": plural,
                "singularName": kind.lower(),
                "kind": kind,
                "namespaced": namespaced,
                "verbs": ["get", "list", "watch", "create", "patch", "delete"],
            }
            for plural, kind, namespaced in GROUPS[group]
        ],
    }
