"""The whole node agent process: fake NVML library, kubelet socket and API server, all real on the wire."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from builders.fake_kubelet import FakeKubelet, serving
from builders.fake_nvml import (
    GIB,
    LIBRARY,
    STATE_VARIABLE,
    FakeGpu,
    build_fake_nvml,
    fake_nvml_state,
    write_state,
)
from wire.fakeapi import FakeApi, Seen, fake_api, kubeconfig

REPORT = "/apis/diffusion-operator.io/v1alpha1/gpunodes/gpu-1"
GPUS = [FakeGpu("GPU-a", 12 * GIB), FakeGpu("GPU-b", 40 * GIB)]


@pytest.fixture(scope="module")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[FakeKubelet]:
    kubelet = FakeKubelet({"team/p": {"nvidia.com/gpu": ["GPU-b"]}})
    with serving(kubelet, tmp_path / "kubelet.sock"):
        yield kubelet


@asynccontextmanager
async def agent(
    api: FakeApi, folder: Path, libraries: Path, port: int = 0
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The process, killed at the end if it still runs. Its standard error is a pipe."""
    config = folder / "kubeconfig"
    config.write_text(json.dumps(kubeconfig(api.url)))
    environment = os.environ | {
        "NODE_NAME": "gpu-1",
        "POD_NAMESPACE": "agents",
        "POD_NAME": "agent-x",
        "POD_UID": "uid-x",
        "LD_LIBRARY_PATH": str(libraries),
        STATE_VARIABLE: str(folder / "state"),
    }
    words = [
        "-m",
        "diffusion_operator.node_agent.main",
        "--http-port",
        str(port),
        "--kubeconfig",
        str(config),
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *words,
        "--pod-resources",
        str(folder / "kubelet.sock"),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def started(process: asyncio.subprocess.Process) -> None:
    """Return when the probes are open."""
    assert process.stderr is not None
    async for line in process.stderr:
        if b"probes on port" in line:
            return
    raise AssertionError("the agent ended without opening its probes")


async def ready(port: int) -> tuple[int, str]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/readyz") as answer,
    ):
        return answer.status, await answer.text()


def is_report(seen: Seen) -> bool:
    return (seen.method, seen.path) == ("PATCH", REPORT)


async def test_it_reports_gets_ready_and_stops_on_sigterm(
    tmp_path: Path, nvml_library: Path, kubelet: FakeKubelet
) -> None:
    write_state(tmp_path / "state", fake_nvml_state(GPUS, nvlinks=[(0, 1)]))
    async with fake_api() as api:
        api.put("/api/v1/nodes", {"metadata": {"name": "gpu-1", "uid": "uid-of-node"}})
        port = free_port()
        async with agent(api, tmp_path, nvml_library.parent, port) as process:
            await asyncio.wait_for(started(process), 30)
            await asyncio.wait_for(api.wait_for_request(is_report), 30)
            for _ in range(100):
                if (await ready(port))[0] == 200:
                    break
                await asyncio.sleep(0.02)  # the answer to the write is on its way back
            assert await ready(port) == (200, "ok\n")
            process.terminate()
            assert await asyncio.wait_for(process.wait(), 20) == 0
        (write,) = api.writes()
    assert write.query == {"fieldManager": "diffusion-node-agent", "force": "true"}
    assert write.body["metadata"]["ownerReferences"][0]["uid"] == "uid-of-node"
    status = write.body["status"]
    assert [gpu["foreignBytes"] for gpu in status["gpus"]] == [12 * GIB, 0]
    assert status["gpus"][1]["heldBy"] == [{"namespace": "team", "name": "p"}]
    assert [gpu["nvlinkPeers"] for gpu in status["gpus"]] == [[1], [0]]
    assert (status["gpuCount"], status["freeGPUs"], status["foreign"]) == (2, 1, "12.0GiB")
    assert kubelet.questions >= 2


async def test_without_a_driver_it_stays_up_and_says_why(
    tmp_path: Path, nvml_library: Path, kubelet: FakeKubelet
) -> None:
    port = free_port()
    async with fake_api() as api, agent(api, tmp_path, nvml_library.parent, port) as process:
        await asyncio.wait_for(started(process), 30)
        for _ in range(250):
            status, text = await ready(port)
            if "driver" in text:
                break
            await asyncio.sleep(0.02)
        assert (status, text) == (503, "the NVIDIA driver does not answer: Driver Not Loaded\n")
        assert api.writes() == []


async def test_without_the_library_it_ends_with_a_sentence(tmp_path: Path, kubelet: FakeKubelet) -> None:
    # A file that is no library stands first in the search path, so a real one is not found behind it.
    (tmp_path / LIBRARY).write_text("no library")
    async with fake_api() as api, agent(api, tmp_path, tmp_path) as process:
        assert process.stderr is not None
        said = await asyncio.wait_for(process.stderr.read(), 30)
        assert await process.wait() == 1
    assert b"diffusion-node-agent cannot start: libnvidia-ml.so.1 is not in this container" in said
    assert b"Traceback" not in said
