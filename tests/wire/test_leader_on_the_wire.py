"""The whole process with a Lease against a small API server: who holds it writes, nobody else ever does."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from diffusion_operator import main
from diffusion_operator.kube.lease import LeaseLost, LeaseSettings
from wire.fakeapi import FakeApi, Seen, fake_api
from wire.test_process_on_the_wire import DDS, DEMO, settings

LEASES = "/apis/coordination.k8s.io/v1/namespaces/home/leases"
LEASE = f"{LEASES}/diffusion-operator"
QUICK = LeaseSettings("home", "under-test", duration_s=30.0, renew_deadline_s=20.0, retry_s=0.1)
"""Renewed often, for so long that a busy machine does not lose it: kopf kills a process that ends slowly."""


def put_lease(api: FakeApi, holder: str, duration_s: int = 600) -> None:
    spec = {"holderIdentity": holder, "leaseDurationSeconds": duration_s, "leaseTransitions": 4}
    lease = {"metadata": {"name": "diffusion-operator", "namespace": "home"}, "spec": spec}
    api.put("/apis/coordination.k8s.io/v1/leases", lease)


def writes(api: FakeApi) -> list[Seen]:
    """Writes other than to the Lease and questions for permissions."""
    passed_over = ("selfsubjectaccessreviews", "leases", "leases/diffusion-operator")
    return [seen for seen in api.writes() if not seen.path.endswith(passed_over)]


@asynccontextmanager
async def running(
    folder: Path, *, held_by: str | None, lost: list[str]
) -> AsyncIterator[tuple[FakeApi, asyncio.Task[None], int]]:
    async with fake_api() as api:
        spec = {"model": {"source": {"builtIn": {"name": "demo"}}}, "replicas": 1}
        api.put(DDS, {"metadata": {"name": "demo", "namespace": "team", "generation": 1}, "spec": spec})
        if held_by is not None:
            put_lease(api, held_by)
        given = replace(settings(api, folder), lease=QUICK)
        process = asyncio.create_task(main.run(given, end_at_once=lambda: lost.append("at once")))
        try:
            yield api, process, given.http_port
        finally:
            process.cancel()
            with suppress(asyncio.CancelledError, ExceptionGroup):
                await process


async def ready(port: int) -> None:
    """Return once /readyz is green."""
    async with aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.02)


async def test_a_standby_is_ready_and_writes_nothing_until_the_lease_is_free(tmp_path: Path) -> None:
    async with running(tmp_path, held_by="another", lost=[]) as (api, _, port):
        await asyncio.wait_for(ready(port), 30)
        asked = [seen for seen in api.seen if seen.path == LEASE]
        await asyncio.wait_for(
            api.wait_for_request(lambda seen: seen.path == LEASE, more_than=len(asked) + 3), 30
        )
        assert writes(api) == []
        lists = sum(1 for seen in api.seen if seen.path == DDS and "watch" not in seen.query)
        put_lease(api, "")
        await asyncio.wait_for(api.wait_for_request(lambda seen: seen.path == f"{DEMO}/status"), 30)
        assert api.objects[LEASE]["spec"]["holderIdentity"] == "under-test"
        assert api.objects[LEASE]["spec"]["leaseTransitions"] == 5
        # A new leader lists once more before its first decision: its mirror may lack the last one's writes.
        assert lists < sum(1 for seen in api.seen if seen.path == DDS and "watch" not in seen.query)


async def test_sigterm_releases_the_lease_and_ends_well(tmp_path: Path) -> None:
    async with running(tmp_path, held_by=None, lost=[]) as (api, process, _):
        await asyncio.wait_for(api.wait_for_request(lambda seen: seen.path == f"{DEMO}/status"), 30)
        await asyncio.wait_for(api.wait_for_watches(DDS), 30)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(process, 30)
        assert api.objects[LEASE]["spec"]["holderIdentity"] == ""
        last = api.writes()[-1]
        assert (last.method, last.path) == ("PUT", LEASE)


async def test_who_loses_the_lease_ends_at_once_and_writes_no_more(tmp_path: Path) -> None:
    lost: list[str] = []
    async with running(tmp_path, held_by=None, lost=lost) as (api, process, _):
        await asyncio.wait_for(api.wait_for_request(lambda seen: seen.path == f"{DEMO}/status"), 30)
        # The Event of that status follows it.
        await asyncio.wait_for(api.wait_for_request(lambda seen: seen.path.endswith("/events")), 30)
        await asyncio.wait_for(api.wait_for_watches(DDS), 30)
        written = len(writes(api))
        put_lease(api, "a thief")
        changed: dict[str, Any] = api.objects[DEMO]
        changed["metadata"]["generation"] = 2
        with pytest.raises(ExceptionGroup) as caught:
            await asyncio.wait_for(process, 30)
        api.put(DDS, changed)
        assert caught.group_contains(LeaseLost, match="held by a thief")
        assert lost == ["at once"]
        assert len(writes(api)) == written
        assert api.objects[LEASE]["spec"]["holderIdentity"] == "a thief"


async def test_a_standby_stops_on_sigterm_without_touching_the_lease(tmp_path: Path) -> None:
    async with running(tmp_path, held_by="another", lost=[]) as (api, process, port):
        await asyncio.wait_for(ready(port), 30)
        await asyncio.wait_for(api.wait_for_watches(DDS), 30)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(process, 30)
        assert [seen for seen in api.writes() if not seen.path.endswith("selfsubjectaccessreviews")] == []
