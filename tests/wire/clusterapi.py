"""The cluster in memory behind real loopback HTTP: faults by request, watch events that arrive late or never.

It speaks as much of the Kubernetes API as the operator uses. Watch events go to the operator's stream
listener directly; kopf, which brings them in production, has wire tests of its own.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from builders.simulated_time import SimulatedLoop
from diffusion_operator.kube.errors import AlreadyExists, ApiError, NotFound
from diffusion_operator.kube.resources import (
    CHILD_RESOURCES,
    DIFFUSION_DEPLOYMENTS,
    EVENTS,
    LEASES,
    SERVICE_MONITORS,
    WATCHED,
    JsonObject,
    Resource,
)
from unit.reconcile.fakecluster import FakeCluster, Key

LATENCY_S = 0.05
RESOURCES = {(r.group, r.version, r.plural): r for r in (*WATCHED, EVENTS, LEASES, SERVICE_MONITORS)}
Tell = Callable[[Resource, JsonObject], None]


@dataclass(frozen=True)
class Asked:
    """One request. `number` counts the writes, except to the Lease, from 1."""

    at_s: float
    who: str
    method: str
    path: str
    number: int = 0

    @property
    def is_write(self) -> bool:
        return self.method != "GET"


@dataclass(frozen=True)
class Fault:
    """What befalls a request: a status, a delay, an answer that is lost, or the death of who asks."""

    status: int = 0
    retry_after_s: int | None = None
    delay_s: float = 0.0
    lost: bool = False
    kill: str = ""
    """`before` or `after` the write."""


@dataclass
class ClusterApi:
    """One server. Set `fault` to judge requests and `hear` to judge watch events (True: it is delivered)."""

    cluster: FakeCluster
    loop: SimulatedLoop
    fault: Callable[[Asked], Fault | None] = lambda _asked: None
    hear: Callable[[Resource, JsonObject], bool] = lambda _resource, _event: True
    after_write: Callable[[], None] = lambda: None
    controllers_every_s: float = 0.2
    url: str = ""
    asked: list[tuple[Asked, int]] = field(default_factory=list)
    written_s: float = 0.0
    writes: int = 0
    killers: dict[str, Callable[[], None]] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    listeners: dict[str, Tell] = field(default_factory=dict)
    leases: dict[str, JsonObject] = field(default_factory=dict)
    terminating: set[str] = field(default_factory=set)
    stale: dict[Key, JsonObject] | None = None
    deleted: list[tuple[str, str]] = field(default_factory=list)
    _stale_version: int = 0
    _told: dict[Key, JsonObject] = field(default_factory=dict)
    _held_back: list[tuple[Resource, JsonObject]] = field(default_factory=list)
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.AppRunner | None = None
    _controllers: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen on a free loopback port and run the cluster's controllers."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._controllers = self.loop.create_task(self._run_controllers())

    async def close(self) -> None:
        """End everything."""
        if self._controllers is not None:
            self._controllers.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    def touch(self) -> None:
        """Somebody changed the cluster: watchers hear of it, controllers act."""
        self.cluster._version_what_changed()
        self._feed()
        self._dirty.set()

    def snapshot(self) -> tuple[dict[Key, JsonObject], int]:
        """The cluster as it is now, for `go_stale`."""
        self.cluster._version_what_changed()
        self._feed()
        return copy.deepcopy(self.cluster.objects), self.cluster.version

    def go_stale(self, snapshot: dict[Key, JsonObject], version: int) -> None:
        """From now on lists show this snapshot and watches say nothing; reads of one object are true."""
        self.stale, self._stale_version = snapshot, version
        for key in {*snapshot, *self._told}:
            live, old = self._told.get(key), snapshot.get(key)
            if live is None and old is not None:
                gone = copy.deepcopy(old)
                gone["metadata"]["resourceVersion"] = str(self.cluster.version)
                self._event(key, "DELETED", gone)
            elif live is not None and live != old:
                self._event(key, "MODIFIED", live)

    def be_fresh(self) -> None:
        """The watch cache has caught up."""
        self.stale = None
        held, self._held_back = self._held_back, []
        for resource, event in held:
            self._tell(resource, event)

    async def _run_controllers(self) -> None:
        while True:
            await self._dirty.wait()
            await asyncio.sleep(self.controllers_every_s)
            self._dirty.clear()
            self.cluster._version_what_changed()
            self.cluster.run_controllers()
            self.cluster._version_what_changed()
            self._feed()

    def _feed(self) -> None:
        """Tell the watchers what differs from what they were told."""
        live, told = self.cluster.objects, self._told
        for key in [key for key in told if key not in live]:
            self.cluster.version += 1
            gone = told.pop(key)
            gone["metadata"]["resourceVersion"] = str(self.cluster.version)
            self.deleted.append((key[0], key[2]))
            self._event(key, "DELETED", gone)
        for key, obj in live.items():
            known = told.get(key)
            if known is None or known["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                told[key] = copy.deepcopy(obj)
                self._event(key, "ADDED" if known is None else "MODIFIED", told[key])

    def _event(self, key: Key, kind: str, obj: JsonObject) -> None:
        resource = next((one for one in WATCHED if one.plural == key[0]), None)
        if resource is None:
            return
        event = {"type": kind, "object": copy.deepcopy(obj)}
        if self.stale is not None:
            self._held_back.append((resource, event))
        else:
            self._tell(resource, event)

    def _tell(self, resource: Resource, event: JsonObject) -> None:
        if self.hear(resource, event):
            for tell in self.listeners.values():
                self.loop.call_later(LATENCY_S, tell, resource, event)

    # --- requests -------------------------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.text() or "null")
        who = request.headers["User-Agent"]
        resource, namespace, name, status = _parsed(request.path)
        counts = request.method != "GET" and resource is not LEASES
        self.writes += counts
        asked = Asked(self.loop.time(), who, request.method, request.path, self.writes if counts else 0)
        fault = None if who in self.dead else self.fault(asked)
        if fault is not None and fault.delay_s:
            with self.loop.waiting():
                await asyncio.sleep(fault.delay_s)
        if fault is not None and fault.kill == "before":
            self._kill(who)
        if who in self.dead:
            return self._reset(request, asked)
        if fault is not None and fault.status:
            self.asked.append((asked, fault.status))
            headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            return _refusal(fault.status, "fault asked for by the test", headers)
        try:
            answer = await self._answer(request, body, resource, namespace, name, status)
            code = 200
        except ApiError as error:
            answer, code = None, error.status
            words, reason = str(error), "AlreadyExists" if isinstance(error, AlreadyExists) else ""
        self.asked.append((asked, code))
        if counts and code == 200:
            self.written_s = self.loop.time()
            self._feed()
            self._dirty.set()
            self.after_write()
        if fault is not None and fault.kill == "after":
            self._kill(who)
        if who in self.dead or (fault is not None and fault.lost):
            return self._reset(request, asked)
        return web.json_response(answer) if code == 200 else _refusal(code, words, {}, reason)

    async def _answer(
        self, request: web.Request, body: Any, resource: Resource, namespace: str, name: str, status: str
    ) -> JsonObject:
        query, cluster = request.query, self.cluster
        if resource is LEASES:
            return self._lease(request.method, name, body)
        if request.method == "GET" and name:
            return await cluster.get(resource, name, namespace)
        if request.method == "GET":
            return await self._list(resource, namespace or None, query.get("labelSelector"))
        if resource is EVENTS and request.method == "POST":
            await cluster.create_event(body)
        elif resource is EVENTS:
            await cluster.repeat_event(namespace, name, body["series"])
        elif request.method == "DELETE":
            await cluster.delete(resource, name, namespace, uid=body["preconditions"]["uid"])
        elif status:
            return await cluster.apply_status(body)
        else:
            if request.method == "POST":
                name = body["metadata"]["name"]
            if namespace in self.terminating and (resource.plural, namespace, name) not in cluster.objects:
                raise ApiError(f"namespace {namespace} is being terminated", status=403)
            if request.method == "POST":
                return await cluster.create(resource, body)
            return await cluster.apply(body, force=query["force"] == "true")
        return {}

    async def _list(self, resource: Resource, namespace: str | None, selector: str | None) -> JsonObject:
        cluster = self.cluster
        if self.stale is not None:
            cluster = FakeCluster(objects=self.stale, version=self._stale_version)
        items, version = await cluster.list_at(resource, namespace, label_selector=selector)
        return {"kind": "List", "metadata": {"resourceVersion": version}, "items": items}

    def _lease(self, method: str, name: str, body: Any) -> JsonObject:
        live = self.leases.get(name)
        if method == "GET":
            if live is None:
                raise NotFound("no Lease", status=404)
            return live
        if method == "POST":
            name = body["metadata"]["name"]
            if name in self.leases:
                raise ApiError("it exists", status=409)
        elif live is None or live["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ApiError("the Lease has been modified", status=409)
        self.cluster.version += 1
        body["metadata"]["resourceVersion"] = str(self.cluster.version)
        self.leases[name] = body
        return dict(body)

    def _kill(self, who: str) -> None:
        self.dead.add(who)
        self.killers[who]()

    def _reset(self, request: web.Request, asked: Asked) -> web.Response:
        self.asked.append((asked, 0))
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


def _parsed(path: str) -> tuple[Resource, str, str, str]:
    """Resource, namespace, name and subresource of a URL path; empty where there is none."""
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    name, status = (*rest[1:], "", "")[:2]
    return RESOURCES[group, version, rest[0]], namespace, name, status


def _refusal(code: int, message: str, headers: dict[str, str], reason: str = "") -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "code": code, "message": message, "reason": reason}
    return web.json_response(body, status=code, headers=headers)


def leaks(cluster: FakeCluster) -> list[str]:
    """Children whose owner is gone, and children that no DiffusionDeployment wants any more."""
    alive = {obj["metadata"]["uid"] for obj in cluster.objects.values()}
    plurals = {resource.plural for resource in CHILD_RESOURCES} | {"replicasets", "pods"}
    found = []
    for (plural, namespace, name), obj in cluster.objects.items():
        owners = obj["metadata"].get("ownerReferences") or ()
        if plural in plurals and not any(owner["uid"] in alive for owner in owners):
            found.append(f"{plural} {namespace}/{name}")
    wishes = {name for plural, _, name in cluster.objects if plural == DIFFUSION_DEPLOYMENTS.plural}
    found += [
        f"{plural} {name} of no wish"
        for (plural, _, name), obj in cluster.objects.items()
        if plural in plurals and _wish(obj) not in wishes
    ]
    return found


def _wish(obj: JsonObject) -> str:
    return str(obj["metadata"].get("labels", {}).get("diffusion-operator.io/deployment", ""))
