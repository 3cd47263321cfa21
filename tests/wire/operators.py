"""The operator as a process that can be started, killed and frozen, and the scene it plays in.

It is put together as `main` does it: real client, mirror, streams, queue, workers, resync and Lease; only the
watches are fed by the server directly. Clocks are the simulated loop's.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from kubernetes.aio.client import Configuration

from builders.promises import overpromised
from builders.simulated_time import SimulatedLoop
from diffusion_operator.kube.errors import ApiError
from diffusion_operator.kube.lease import Lease, LeaseLost, LeaseSettings
from diffusion_operator.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    PODS,
    WATCHED,
    JsonObject,
    Resource,
)
from diffusion_operator.kube.rest import ClientSettings, RestKubeClient
from diffusion_operator.reconcile.children import ANNOTATION_APPLIED_HASH
from diffusion_operator.reconcile.hints import Hints
from diffusion_operator.reconcile.keys import Key
from diffusion_operator.reconcile.metrics import Metrics
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.queue import KeyedQueue
from diffusion_operator.reconcile.story import Reconciler
from diffusion_operator.reconcile.streams import Streams, mend_silent_watches
from diffusion_operator.reconcile.wakes import Wakes
from diffusion_operator.reconcile.worker import resync, work
from unit.reconcile.fakecluster import FakeCluster
from unit.reconcile.plans import NOW
from unit.reconcile.worlds import SETTINGS, demo
from wire.clusterapi import ClusterApi, leaks

WORKERS = 4
BOOKMARK_S = 60.0
QUIET_S = 61.0
NOISE = ("uid", "observedGeneration", ANNOTATION_APPLIED_HASH)
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)")


class Operator:
    """One process. `skew_s` is how far its wall clock is off."""

    def __init__(self, api: ClusterApi, name: str, *, elects: bool = False, skew_s: float = 0.0) -> None:
        self.api, self.name, self.loop = api, name, api.loop
        self.alive, self.ended = True, ""
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.metrics, self.mirror = Metrics(), Mirror()
        self.streams = Streams(self.mirror, monotonic=self.loop.time)
        self.deaf: set[Resource] = set()
        self.started_s, self.led_s = self.loop.time(), -1.0
        self.lease: Lease | None = None
        now = lambda: NOW + timedelta(seconds=self.loop.time() + skew_s)  # noqa: E731
        if elects:
            self._lease_client = self._connect(5.0)
            settings = LeaseSettings("home", name)
            self.lease = Lease(
                self._lease_client, settings, monotonic=self.loop.time, sleep=self._sleep, utc_now=now
            )
        self.client = self._connect(30.0)
        self.queue: KeyedQueue[Key] = KeyedQueue(self.loop)
        self.reconciler = Reconciler(self.client, self.mirror, api.cluster, SETTINGS, instance=name, now=now)
        self.reconciler._capacity._monotonic = self.loop.time
        self.mirror.on_change(Wakes(Hints(self.queue, self.loop.time)))
        api.killers[name] = self.kill
        api.listeners[name] = self._hear
        self._tasks = [self.loop.create_task(part) for part in self._parts()]
        for task in self._tasks:
            task.add_done_callback(self._part_ended)

    def _connect(self, timeout_s: float) -> RestKubeClient:
        settings = ClientSettings(
            user_agent=self.name, request_timeout_s=timeout_s, rate_per_s=1e6, burst=10**6
        )
        check = self.lease.check if self.lease is not None else (lambda: None)
        client = RestKubeClient(Configuration(host=self.api.url), settings, check_write=check)
        once, take = client._once, client._bucket.take

        async def counted(*given: Any) -> JsonObject:
            with self.loop.working():
                return await once(*given)

        async def thawed_take() -> None:
            await self.thawed.wait()  # a frozen process sends nothing
            await take()

        client._once = counted  # type: ignore[method-assign]
        client._bucket.take = thawed_take  # type: ignore[method-assign]
        return client

    async def _sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.thawed.wait()

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        leading, caught_up = asyncio.Event(), asyncio.Event()

        async def lead() -> None:
            if self.lease is not None:
                await self.lease.acquire()
            self.led_s = self.loop.time()
            leading.set()
            if self.lease is None:
                await asyncio.Event().wait()
            else:
                await self.lease.keep()

        async def work_when_leading() -> None:
            await caught_up.wait()
            await work(self.queue, self.reconciler, self.metrics)

        async def resync_when_leading() -> None:
            while not self.mirror.synced:  # what kopf's first lists do
                try:
                    await self.mirror.refresh(self.client)
                except ApiError:
                    await asyncio.sleep(1.5)
            await leading.wait()
            await resync(self.client, self.mirror, self.queue, (), caught_up)

        async def bookmarks() -> None:
            while True:
                for resource in set(WATCHED) - self.deaf:
                    self.streams.heard(resource.path())
                await asyncio.sleep(BOOKMARK_S)

        async def mend() -> None:
            await mend_silent_watches(self.client, self.streams)

        workers = [work_when_leading() for _ in range(WORKERS)]
        telling = self.reconciler.events.run()
        return [lead(), *workers, telling, resync_when_leading(), bookmarks(), mend()]

    def _hear(self, resource: Resource, event: JsonObject) -> None:
        if self.alive and self.thawed.is_set() and resource not in self.deaf:
            self.streams.heard(resource.path())
            self.streams.event(resource, event)

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if self.alive:
            self.ended = "LeaseLost" if isinstance(error, LeaseLost) else repr(error)
            self.kill()

    def kill(self) -> None:
        """kill -9: whatever it was about to send is never sent."""
        self.alive = False
        self.api.dead.add(self.name)
        self.api.listeners.pop(self.name, None)
        for task in self._tasks:
            task.cancel()

    async def close(self) -> None:
        """Kill it and free its sockets."""
        self.kill()
        self.thawed.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.client.close()
        if self.lease is not None:
            await self._lease_client.close()

    def bugs(self) -> float:
        """Reconciles that ended in an exception nobody foresaw."""
        return float(self.metrics.reconciles.labels("bug")._value.get())


@dataclass
class Scene:
    """A cluster, its API server and the operators that ever ran on it."""

    loop: SimulatedLoop
    cluster: FakeCluster
    api: ClusterApi
    operators: list[Operator] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    @property
    def operator(self) -> Operator:
        """The newest."""
        return self.operators[-1]

    @property
    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.loop.time())

    def start(self, **how: Any) -> Operator:
        """A fresh process with an empty memory."""
        self.operators.append(Operator(self.api, f"operator-{len(self.operators) + 1}", **how))
        return self.operator

    def submit(self, dd: JsonObject) -> None:
        """kubectl apply."""
        self.stamp()
        self.cluster.submit(dd)
        self.api.touch()

    def delete(self, name: str = "demo") -> None:
        """kubectl delete; the garbage collector comes later."""
        self.cluster.version += 1
        del self.cluster.objects[DIFFUSION_DEPLOYMENTS.plural, "team", name]
        self.api.touch()

    def stamp(self) -> None:
        self.cluster.stamp = self.now.isoformat().replace("+00:00", "Z")

    async def rest(self, limit_s: float = 1500.0, *, quiet_s: float = QUIET_S) -> float:
        """Until nothing has been written for so many seconds; returns the time of the last write."""
        started_s = self.loop.time()
        while self.loop.time() - max(started_s, self.api.written_s) < quiet_s:
            if self.loop.time() - started_s > limit_s:
                last = [f"{one.method} {one.path}: {code}" for one, code in self.api.asked[-12:]]
                raise AssertionError(f"no rest after {limit_s:.0f} s; last requests: {last}")
            await asyncio.sleep(2.0)
            self.stamp()
            assert any(one.alive for one in self.operators), f"every operator ended: {self.operator.ended}"
        return self.api.written_s

    def pods(self) -> set[tuple[str, str]]:
        """Name and uid of every pod."""
        return {
            (name, obj["metadata"]["uid"])
            for (plural, _, name), obj in self.cluster.objects.items()
            if plural == PODS.plural
        }

    def condition(self, kind: str, name: str = "demo") -> JsonObject:
        """One live condition."""
        status = self.cluster.get_now(DIFFUSION_DEPLOYMENTS, name)["status"]
        return next(dict(c) for c in status["conditions"] if c["type"] == kind)

    def state(self) -> JsonObject:
        """All that a user can see, without times, uids and generations."""
        return {key: _without_noise(obj) for key, obj in self.cluster.state().items()}

    def expect(self, expected: JsonObject, when: str = "") -> None:
        """The end state is this one, or an assertion says where it is not."""
        expect_same(self.state(), expected, when)

    def check(self) -> None:
        """What holds after every fault."""
        assert self.broken == []
        assert leaks(self.cluster) == []
        assert [one.bugs() for one in self.operators] == [0.0] * len(self.operators)
        for (plural, _, name), obj in self.cluster.objects.items():
            if plural == DIFFUSION_DEPLOYMENTS.plural:
                seen = (obj.get("status") or {}).get("observedGeneration")
                assert seen == obj["metadata"]["generation"], f"{name} was not looked at"

    def watch_promises(self) -> None:
        """After every write: do all promises fit?"""
        problem = overpromised(self.cluster)
        if problem:
            self.broken.append(f"write {self.api.writes}: {problem}")


@asynccontextmanager
async def scene(loop: SimulatedLoop, *nodes: int, cluster: FakeCluster | None = None) -> AsyncIterator[Scene]:
    """Nodes of so many GPUs each; no operator runs yet."""
    made = cluster if cluster is not None else FakeCluster()
    api = ClusterApi(made, loop)
    here = Scene(loop, made, api)
    here.stamp()
    for number, gpus in enumerate(nodes, 1):
        made.add_node(f"node-{number}", gpus)
    api.after_write = here.watch_promises
    await api.start()
    api.touch()
    try:
        yield here
    finally:
        for operator in here.operators:
            await operator.close()
        await api.close()


async def serving(here: Scene, **spec: Any) -> None:
    """One operator, one deployment that serves."""
    here.start()
    here.submit(demo(**spec))
    await here.rest()
    assert here.condition("Ready")["status"] == "True", here.condition("Ready")


def dd_status(here: Scene, name: str = "demo") -> JsonObject:
    """The live status."""
    return dict(here.cluster.get_now(DIFFUSION_DEPLOYMENTS, name)["status"])


def _without_noise(value: Any) -> Any:
    """Times, uids and generations differ between two runs that end alike, and hashes over them."""
    if isinstance(value, dict):
        return {key: "ANY" if key in NOISE else _without_noise(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_without_noise(one) for one in value]
    return "TIME" if isinstance(value, str) and TIME.fullmatch(value) else value


def in_use(state: JsonObject) -> JsonObject:
    """Without the plans that only ReplicaSets of the past name: which of them there were is chance."""
    mounted = json.dumps([obj for path, obj in state.items() if path.startswith(DEPLOYMENTS.plural)])
    return {
        path: obj
        for path, obj in state.items()
        if not path.startswith(CONFIG_MAPS.plural) or path.rsplit("/", 1)[1] in mounted
    }


def expect_same(found: JsonObject, expected: JsonObject, when: str = "") -> None:
    """Fail with the paths at which the two differ."""
    wrong = differences(found, expected)
    assert wrong == [], "\n".join([when, *wrong[:20]])


def differences(found: Any, expected: Any, path: str = "") -> list[str]:
    """Paths at which two documents differ, with both values."""
    if isinstance(found, dict) and isinstance(expected, dict):
        keys = sorted(found.keys() | expected.keys())
        return [
            one for key in keys for one in differences(found.get(key), expected.get(key), f"{path}.{key}")
        ]
    if isinstance(found, list) and isinstance(expected, list) and len(found) == len(expected):
        pairs = enumerate(zip(found, expected, strict=True))
        return [one for index, (a, b) in pairs for one in differences(a, b, f"{path}[{index}]")]
    return [] if found == expected else [f"{path}: {found!r:.300}, expected {expected!r:.300}"]
