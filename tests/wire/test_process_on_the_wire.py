"""The whole operator process against a small API server: start, work, rest, stop."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from diffusion_operator import main, preconditions
from diffusion_operator.kube.rest import ClientSettings
from diffusion_operator.reconcile import streams
from diffusion_operator.render.settings import RenderSettings
from diffusion_operator.settings import OperatorSettings
from wire.fakeapi import FakeApi, fake_api, kubeconfig

DDS = "/apis/diffusion-operator.io/v1alpha1/diffusiondeployments"
DEMO = f"{DDS.rsplit('/', 1)[0]}/namespaces/team/diffusiondeployments/demo"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(api: FakeApi, folder: Path) -> OperatorSettings:
    config = folder / "kubeconfig"
    config.write_text(json.dumps(kubeconfig(api.url)))
    return OperatorSettings(
        render=RenderSettings(engine_image="engine:test"),
        client=ClientSettings(kubeconfig=str(config)),
        workers=2,
        http_port=free_port(),
        instance="operator-under-test",
    )


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[tuple[FakeApi, asyncio.Task[None], int]]:
    """The process on a server with one DiffusionDeployment and no GPU node."""
    async with fake_api() as api:
        dd = {
            "apiVersion": "diffusion-operator.io/v1alpha1",
            "kind": "DiffusionDeployment",
            "metadata": {"name": "demo", "namespace": "team", "generation": 1},
            "spec": {"model": {"source": {"builtIn": {"name": "demo"}}}, "replicas": 1},
        }
        api.put(DDS, dd)
        given = settings(api, folder)
        yield api, asyncio.create_task(main.run(given)), given.http_port


def nobody() -> str:
    raise OSError("No username set in the environment")


async def test_it_starts_says_why_rests_and_stops_on_sigterm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The image's uid has no entry in the user database, and kopf asks for the user's name unless told one.
    monkeypatch.setattr(getpass, "getuser", nobody)
    async with running(tmp_path) as (api, process, port):
        await asyncio.wait_for(api.wait_for_request(lambda seen: seen.path == f"{DEMO}/status"), 30)
        await asyncio.wait_for(api.wait_for_watches(DDS, "/api/v1/nodes", "/api/v1/pods"), 30)
        async with aiohttp.ClientSession() as session:
            for path in ("livez", "readyz"):
                async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
                    assert answer.status == 200
            async with session.get(f"http://127.0.0.1:{port}/metrics") as answer:
                assert 'diffusion_operator_reconciles_total{result="done"}' in await answer.text()

        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(process, 30)

        # SIGTERM lets the running reconcile end, so this is all that was ever written.
        writes = [seen for seen in api.writes() if not seen.path.endswith("selfsubjectaccessreviews")]
        assert [(seen.method, seen.path.rsplit("/", 1)[1]) for seen in writes] == [
            ("PATCH", "status"),
            ("POST", "events"),
        ]
        status, event = writes[0].body["status"], writes[1].body
        assert (event["type"], event["reason"], event["reportingInstance"]) == (
            "Warning",
            "NoGPUNodes",
            "operator-under-test",
        )
        assert {c["type"]: c["status"] for c in status["conditions"]}["Stalled"] == "True"
        assert all("finalizers" not in json.dumps(seen.body) for seen in writes)


async def said_by(port: int, path: str, words: str) -> None:
    """Return once a probe says this."""
    async with aiohttp.ClientSession() as session:
        while True:
            with suppress(aiohttp.ClientConnectionError):
                async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
                    if words in await answer.text():
                        return
            await asyncio.sleep(0.02)


async def test_a_missing_permission_is_one_sentence_and_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(preconditions, "LOOK_AGAIN_S", 0.05)
    async with running(tmp_path) as (api, process, port):
        api.denied = {("patch", "deployments"), ("patch", "diffusiondeployments/status")}
        words = "its role does not allow: patch diffusiondeployments/status, patch deployments"
        await asyncio.wait_for(said_by(port, "readyz", words), 30)
        await asyncio.wait_for(said_by(port, "livez", "ok"), 30)
        await asyncio.wait_for(said_by(port, "metrics", "diffusion_operator_blocked 1.0"), 30)
        assert f"cannot work yet: {words}" in caplog.text
        api.denied = set()
        await asyncio.wait_for(api.wait_for_request(lambda seen: seen.path == f"{DEMO}/status"), 30)
        await asyncio.wait_for(said_by(port, "metrics", "diffusion_operator_blocked 0.0"), 30)
        await stopped(process)


async def test_a_definition_that_goes_and_comes_back_costs_no_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F9: away at the start, away while it runs; the deployments that come back with it are served."""
    monkeypatch.setattr(preconditions, "LOOK_AGAIN_S", 0.05)
    async with running(tmp_path) as (api, process, port):
        api.missing = {"diffusiondeployments"}
        missing = "the custom resource definition diffusiondeployments.diffusion-operator.io is not installed"
        await asyncio.wait_for(said_by(port, "readyz", missing), 30)
        api.missing = set()
        await asyncio.wait_for(api.wait_for_request(lambda seen: seen.path == f"{DEMO}/status"), 30)
        await asyncio.wait_for(api.wait_for_watches(DDS), 30)

        demo = api.objects.pop(DEMO)
        api.missing = {"diffusiondeployments"}
        api.tell(DDS, "DELETED", demo)
        api.watching.pop(DDS).put_nowait({"type": "CUT"})
        await asyncio.wait_for(said_by(port, "metrics", "diffusion_operator_blocked 1.0"), 30)
        assert "is its custom resource definition installed?" in caplog.text
        api.missing = set()
        written = sum(seen.path == f"{DEMO}/status" for seen in api.seen)
        api.put(DDS, demo | {"status": {}})
        again = api.wait_for_request(lambda seen: seen.path == f"{DEMO}/status", more_than=written)
        await asyncio.wait_for(again, 30)
        await asyncio.wait_for(said_by(port, "metrics", "diffusion_operator_blocked 0.0"), 30)
        assert not process.done()
        await stopped(process)
    assert "Traceback" not in caplog.text


async def test_a_silent_watch_that_nobody_can_list_makes_it_unwell_until_it_speaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The streams stay open and carry nothing, and every list fails: F4, as the kubelet sees it."""
    monkeypatch.setattr(streams, "SILENT_AFTER_S", 0.2)
    monkeypatch.setattr(streams, "UNWELL_AFTER_S", 0.2)
    monkeypatch.setattr(streams, "LOOK_EVERY_S", 0.05)
    async with running(tmp_path) as (api, process, port):
        await asyncio.wait_for(api.wait_for_watches(DDS, "/api/v1/nodes", "/api/v1/pods"), 30)
        assert await probed(port, "livez") == (200, "ok\n")
        api.faults.extend(["reset"] * 100_000)
        await asyncio.wait_for(said_by(port, "livez", "is silent and lists fail for"), 30)
        status, words = await probed(port, "livez")
        assert status == 503
        assert words.startswith("the watch of ")
        api.faults.clear()
        await asyncio.wait_for(said_by(port, "livez", "ok"), 30)
        assert (await probed(port, "livez"))[0] == 200
        assert not process.done()
        await stopped(process)


async def probed(port: int, path: str) -> tuple[int, str]:
    """What the kubelet gets."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/{path}") as answer,
    ):
        return answer.status, await answer.text()


async def stopped(process: asyncio.Task[None]) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(process, 30)


async def test_a_dead_watch_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dead(*_: Any, **__: Any) -> None:
        raise ConnectionError("the stream died")

    monkeypatch.setattr(main, "watch", dead)
    async with fake_api() as api:
        with pytest.raises(ExceptionGroup) as caught:
            await main.run(settings(api, tmp_path))
    assert "the stream died" in str(caught.value.exceptions)


async def test_a_dead_worker_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def dead(*_: Any) -> None:
        raise RuntimeError("a bug in the loop itself")

    async def quiet(*_: Any, **__: Any) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(main, "work", dead)
    monkeypatch.setattr(main, "watch", quiet)
    async with fake_api() as api:
        with pytest.raises(ExceptionGroup) as caught:
            await main.run(settings(api, tmp_path))
    assert "a bug in the loop itself" in str(caught.value.exceptions)
