"""The operator's own reader over loopback HTTP: what engines and fetches answer is what it understands."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette

from diffusion_operator.kube import reports
from diffusion_operator.kube.reports import FetchProgress, HttpReportReader, ReportUnavailable
from diffusion_runtime.commands.fetch_progress import VARIABLE, served
from diffusion_runtime.planning.documents import EngineReport
from diffusion_runtime.server.management import build_management

from .fake_group import REQUEST, fake_engine, until
from .plans import cpu_execution, plan_for

HOST = "127.0.0.1"
PLAN = plan_for(cpu_execution())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def reading(port: int) -> AsyncIterator[HttpReportReader]:
    reader = HttpReportReader(port=port)
    try:
        yield reader
    finally:
        await reader.close()


@asynccontextmanager
async def listening(application: Starlette) -> AsyncIterator[int]:
    """The application on a free port, by the server that serves it in the pod."""
    port = free_port()
    server = uvicorn.Server(
        uvicorn.Config(application, host=HOST, port=port, log_config=None, lifespan="off")
    )
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield port
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def answering(*pieces: bytes, status: str = "200 OK") -> AsyncIterator[int]:
    """One answer that arrives in pieces, as a long one does over a network."""
    length = sum(map(len, pieces))
    ended = asyncio.Event()

    async def answer(asked: asyncio.StreamReader, told: asyncio.StreamWriter) -> None:
        await asked.readuntil(b"\r\n\r\n")
        told.write(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode())
        with contextlib.suppress(ConnectionError):  # who asked may have heard enough
            for piece in pieces:
                told.write(piece)
                await told.drain()
                await asyncio.sleep(0.02)  # so that each piece is a packet, and read, by itself
            told.close()
            await told.wait_closed()
        ended.set()

    async with await asyncio.start_server(answer, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1]
        await ended.wait()


async def test_a_report_arrives_as_the_engine_means_it(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, PLAN, [{}])
    running = asyncio.create_task(engine.run())
    async with listening(build_management(engine)) as port, reading(port) as reader:
        loading = await reader.read(HOST)
        assert loading.plan_hash == PLAN.hash
        await until(lambda: engine.ready)
        ready = await reader.read(HOST)
        assert ready == engine.report_now()
        assert (ready.state, ready.load_seconds, set(ready.phases)) == ("ready", 1.0, {"load"})
        await engine.submit([REQUEST]).result
        drawn = await reader.read(HOST)
        assert drawn == engine.report_now()
        assert drawn.phases["denoise"].allocated_bytes == 200
        assert (drawn.seconds_per_step, drawn.seconds_per_request) == (0.5, 2.0)
        engine.drain()
        await running


async def test_a_report_that_comes_in_packets_is_read_to_its_end() -> None:
    report = EngineReport(
        plan_hash="a", executing_hash="a", state="ready", device="cpu", ranks=1, planned_peak_per_gpu_bytes=1
    )
    text = report.to_json().encode()
    async with answering(text[:10], text[10:50], text[50:]) as port, reading(port) as reader:
        assert await reader.read(HOST) == report


async def test_what_is_no_report_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(b'{"state": "re') as port, reading(port) as reader:
        with pytest.raises(ReportUnavailable, match="not a report this operator knows"):
            await reader.read(HOST)
    async with answering(b"{}", status="503 Service Unavailable") as port, reading(port) as reader:
        with pytest.raises(ReportUnavailable, match="answered 503"):
            await reader.read(HOST)
    monkeypatch.setattr(reports, "LARGEST_REPORT_BYTES", 100)
    async with answering(b" " * 60, b" " * 60) as port, reading(port) as reader:
        with pytest.raises(ReportUnavailable, match="longer than 100 bytes"):
            await reader.read(HOST)
    async with reading(free_port()) as reader:
        with pytest.raises(ReportUnavailable, match="ClientConnectorError"):
            await reader.read(HOST)


async def test_progress_of_a_fetch_is_what_the_operator_reads() -> None:
    port = free_port()
    with served({VARIABLE: str(port)}) as fetch:
        async with reading(port) as reader:
            assert await reader.progress(HOST) == FetchProgress(bytes_done=0, bytes_total=0)
            fetch.report(3 << 30, 16 << 30)
            assert await reader.progress(HOST) == FetchProgress(bytes_done=3 << 30, bytes_total=16 << 30)
            with pytest.raises(ReportUnavailable, match="answered 404"):
                await reader.read(HOST)
    async with reading(port) as reader:
        with pytest.raises(ReportUnavailable):
            await reader.progress(HOST)
