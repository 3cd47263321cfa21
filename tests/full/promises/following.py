"""Follows all DiffusionDeployments of a namespace and adds up what their statuses promise, event by event.

The events of one watch come in the order of their resourceVersions, so after each event the sum is what the
store held at that version. A watch that ends or skips back is an error: a version would have gone unjudged.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from kubernetes.aio.client import Configuration

from builders.whole_pods import misfit
from diffusion_operator.kube.listening import _tls
from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS, JsonObject

LONGEST_S = 3600


@dataclass
class Promises:
    """`nodes` counts the nodes by their GPUs. Every event goes to `journal`, to look up causes."""

    nodes: Mapping[int, int]
    journal: Path
    by_name: dict[str, Counter[int]] = field(default_factory=dict)
    sum: Counter[int] = field(default_factory=Counter)
    version: int = 0
    checked: int = 0
    most_gpus: int = 0
    changed_s: float = field(default_factory=time.monotonic)
    violations: list[str] = field(default_factory=list)

    @property
    def gpus(self) -> int:
        """GPUs that are promised now."""
        return sum(gpus * count for gpus, count in self.sum.items())

    def replicas(self) -> dict[str, int]:
        """Promised replicas by deployment."""
        return {name: promised.total() for name, promised in self.by_name.items()}

    def take(self, event: JsonObject) -> None:
        """One event of the watch."""
        obj, kind = event["object"], event["type"]
        assert kind in ("ADDED", "MODIFIED", "DELETED"), event
        name, version = obj["metadata"]["name"], int(obj["metadata"]["resourceVersion"])
        assert version > self.version, f"{version} came after {self.version}"
        self.version = version
        self.checked += 1
        placements = (obj.get("status") or {}).get("placements") or () if kind != "DELETED" else ()
        promised: Counter[int] = Counter()
        for placement in placements:
            promised[placement["gpusPerReplica"]] += placement["replicas"]
        before = self.by_name.get(name, Counter())
        if promised != before:
            self.changed_s = time.monotonic()
        self.sum.subtract(before)
        self.sum.update(promised)
        self.by_name[name] = promised
        if kind == "DELETED":
            del self.by_name[name]
        self.most_gpus = max(self.most_gpus, self.gpus)
        problem = misfit(self.nodes, self.sum)
        if problem:
            self.violations.append(f"resourceVersion {version} of {name}: {problem}")
        self._note(event, promised, problem)

    def _note(self, event: JsonObject, promised: Counter[int], problem: str) -> None:
        obj = event["object"]
        metadata, spec, status = obj["metadata"], obj.get("spec") or {}, obj.get("status") or {}
        line = {"s": round(time.time(), 2), "type": event["type"], "problem": problem}
        line |= {key: metadata.get(key) for key in ("name", "uid", "resourceVersion", "generation")}
        line |= {key: spec.get(key) for key in ("replicas", "parallelism")}
        line |= {key: status.get(key) for key in ("observedGeneration", "placements")}
        with self.journal.open("a") as journal:
            journal.write(json.dumps(line | {"promised": promised, "sum": self.sum}) + "\n")


@asynccontextmanager
async def followed(
    configuration: Configuration, namespace: str, promises: Promises
) -> AsyncIterator[asyncio.Task[None]]:
    """Judges every event while the block runs; when the watch broke, the end of the block says why."""
    token = await configuration.get_api_key_with_prefix("BearerToken")
    headers = {"Authorization": token} if token else {}
    connector = aiohttp.TCPConnector(ssl=_tls(configuration))
    timeout = aiohttp.ClientTimeout(total=None)
    url = f"{configuration.host}{DIFFUSION_DEPLOYMENTS.path(namespace)}"
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:
        async with session.get(url) as answer:
            listed = await answer.json()
        assert listed["items"] == []
        promises.version = int(listed["metadata"]["resourceVersion"])
        task = asyncio.create_task(_follow(session, url, promises))
        try:
            yield task
        finally:
            task.cancel()
            ended = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(ended, asyncio.CancelledError), ended


async def _follow(session: aiohttp.ClientSession, url: str, promises: Promises) -> None:
    begin = {"watch": "true", "resourceVersion": str(promises.version), "timeoutSeconds": str(LONGEST_S)}
    async with session.get(url, params=begin) as answer:
        answer.raise_for_status()
        rest = b""
        async for data in answer.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                promises.take(json.loads(line))
    raise AssertionError("the watch ended")
