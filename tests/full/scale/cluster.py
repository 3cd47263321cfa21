"""What the scale suite does to the cluster, through plain asynchronous calls of the operator's own client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from kubernetes.aio.client import Configuration

from diffusion_operator.kube.listening import _tls
from diffusion_operator.kube.resources import JsonObject, Resource
from diffusion_operator.kube.rest import ClientSettings, RestKubeClient, load_configuration
from localcluster.gpunodes import FAKE_TAINT, H200, fake_node

REPOSITORY = Path(__file__).parents[3]
NODE_PREFIX = "scale-"
CONCURRENCY = 8  # the operator's workers
NAMESPACES = 20


def node_names(count: int) -> list[str]:
    return [f"{NODE_PREFIX}{number:04}" for number in range(count)]


def node(name: str) -> JsonObject:
    made = fake_node(name, H200, 8)
    made["metadata"]["labels"]["scale"] = "yes"
    return made


def namespaces(whose: str) -> list[str]:
    """Teams share a cluster. In one namespace the controllers look at every pod for each Service."""
    return [f"{whose}-{number:02}" for number in range(NAMESPACES)]


def namespace_of(whose: str, name: str) -> str:
    """The names, which end in a number, are dealt out to the namespaces in turn."""
    return namespaces(whose)[int(name.rpartition("-")[2]) % NAMESPACES]


def wish(name: str, whose: str, replicas: int = 1) -> JsonObject:
    """A DiffusionDeployment on the fake nodes alone."""
    namespace = namespace_of(whose, name)
    return {
        "apiVersion": "diffusion-operator.io/v1alpha1",
        "kind": "DiffusionDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {"source": {"builtIn": {"name": "demo"}}},
            "performance": {"device": "cpu"},
            "parallelism": {"gpusPerReplica": 1},
            "replicas": replicas,
            "hardware": {
                "nodeSelector": {"scale": "yes"},
                "tolerations": [{"key": FAKE_TAINT, "operator": "Exists"}],
            },
        },
    }


async def each(things: Iterable[object], act: Callable[..., Awaitable[object]], at_once: int) -> None:
    """Act on all things, at most so many at once."""
    waiting = iter(things)

    async def one_after_the_other() -> None:
        for thing in waiting:
            await act(thing)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(one_after_the_other())


@dataclass
class Seen:
    """What a watch saw in these namespaces, by name, and when it first saw an object."""

    namespaces: frozenset[str]
    objects: dict[str, JsonObject] = field(default_factory=dict)
    first_s: dict[str, float] = field(default_factory=dict)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    failed: Exception | None = None

    async def until(self, holds: Callable[[dict[str, JsonObject]], bool], limit_s: float) -> None:
        async with asyncio.timeout(limit_s), self.changed:
            await self.changed.wait_for(lambda: self.failed is not None or holds(self.objects))
        if self.failed is not None:
            raise self.failed

    async def fail(self, error: Exception) -> None:
        """Nothing more will be seen."""
        async with self.changed:
            self.failed = error
            self.changed.notify_all()


class Watcher:
    """Raw watches of somebody's namespaces, with the client's credentials."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    @asynccontextmanager
    async def watching(self, resource: Resource, whose: str) -> AsyncIterator[Seen]:
        seen = Seen(frozenset(namespaces(whose)))
        connector = aiohttp.TCPConnector(ssl=_tls(self._configuration))
        timeout = aiohttp.ClientTimeout(total=None)
        token = await self._configuration.get_api_key_with_prefix("BearerToken")
        headers = {"Authorization": token} if token else {}
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
            started = asyncio.Event()
            url = f"{self._configuration.host}{resource.path()}"
            task = asyncio.create_task(self._follow(session, url, seen, started))
            waiting = asyncio.create_task(started.wait())
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                waiting.cancel()
                await task
            try:
                yield seen
            finally:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def _follow(
        self, session: aiohttp.ClientSession, url: str, seen: Seen, started: asyncio.Event
    ) -> None:
        """Goes on where a stream ended: the API server ends those of clients that are slow for a moment."""
        version = ""  # all that there is, then what happens
        try:
            while True:
                version = await self._stream(session, url, version, seen, started)
        except Exception as error:
            await seen.fail(error)
            raise

    async def _stream(
        self, session: aiohttp.ClientSession, url: str, version: str, seen: Seen, started: asyncio.Event
    ) -> str:
        """One stream to its end; the resourceVersion to go on from."""
        parameters = {"watch": "true"} | ({"resourceVersion": version} if version else {})
        async with session.get(url, params=parameters) as answer:
            answer.raise_for_status()
            started.set()
            rest = b""
            async for data in answer.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    version = self._take(json.loads(line), seen)
                if lines:
                    async with seen.changed:
                        seen.changed.notify_all()
        return version

    @staticmethod
    def _take(event: JsonObject, seen: Seen) -> str:
        """The resourceVersion to go on from. RuntimeError when it is not kept any more."""
        obj = event["object"]
        if event["type"] == "ERROR":
            raise RuntimeError(f"the watch cannot go on: {obj}")
        name = obj["metadata"]["name"]
        version = str(obj["metadata"]["resourceVersion"])
        if obj["metadata"].get("namespace") not in seen.namespaces:
            return version
        if event["type"] == "DELETED":
            seen.objects.pop(name, None)
        else:
            seen.first_s.setdefault(name, time.monotonic())
            seen.objects[name] = obj
        return version


class Operator:
    """The operator's process: its memory from the kernel, its calls from its own metrics."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._port = port

    @property
    def memory_mib(self) -> tuple[float, float]:
        """(resident now, highest resident so far) in MiB."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        found = {key: int(value) / 1024 for key, value in re.findall(r"(VmRSS|VmHWM):\s+(\d+) kB", text)}
        return found["VmRSS"], found["VmHWM"]

    @property
    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text; 0 while nobody answers."""
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(f"http://127.0.0.1:{self._port}/{path}") as answer:
                    return answer.status, await answer.text()
            except aiohttp.ClientConnectionError:
                return 0, ""

    async def calls(self) -> dict[str, float]:
        """Requests to the API server so far: reads, writes (Lease aside), and the Events among the writes."""
        _, text = await self.get("metrics")
        counted = {"reads": 0.0, "writes": 0.0, "events": 0.0}
        pattern = r"diffusion_operator_api_calls_total\{(.*?)\} (\S+)"
        for labels, value in re.findall(pattern, text):
            counted["reads" if 'verb="GET"' in labels else "writes"] += float(value)
            counted["events"] += float(value) if 'resource="events"' in labels else 0.0
        return counted

    async def reconciles(self) -> float:
        """Reconciles so far, however they ended."""
        _, text = await self.get("metrics")
        return sum(
            map(float, re.findall(r"^diffusion_operator_reconciles_total\S* (\S+)", text, re.MULTILINE))
        )

    async def queue_depth(self) -> float:
        _, text = await self.get("metrics")
        found = re.search(r"^diffusion_operator_queue_depth (\S+)", text, re.MULTILINE)
        return float(found[1]) if found else -1.0

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self._process.terminate()
        return self._process.wait(timeout=60)


def start_operator(kubeconfig: Path, port: int, log: Path) -> Operator:
    command = [
        sys.executable, "-m", "full.scale.operator_process",
        "--engine-image", "localhost/engine:scale", "--kubeconfig", str(kubeconfig),
        "--http-port", str(port), "--lease-namespace", "default", "--lease-name", "scale",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY / "tests")}
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    return Operator(process, port)


async def clients(kubeconfig: Path) -> tuple[Configuration, RestKubeClient, RestKubeClient]:
    """(configuration, a client with the operator's limits, one without limits that matter)."""
    settings = ClientSettings(kubeconfig=str(kubeconfig))
    configuration = await load_configuration(settings)
    free = ClientSettings(rate_per_s=10_000, burst=10_000, request_timeout_s=120)
    return configuration, RestKubeClient(configuration, settings), RestKubeClient(configuration, free)
