"""`helm test` passes when the operator is ready and leads, and says what is wrong when not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from diffusion_operator.health import start_http
from diffusion_operator.reconcile.metrics import Metrics
from diffusion_operator.selfcheck import check, main
from wire.test_process_on_the_wire import free_port


@pytest.fixture
async def operator() -> AsyncIterator[tuple[str, asyncio.Event, Metrics]]:
    ready, metrics = asyncio.Event(), Metrics()
    # Port 0 would give IPv4 and IPv6 a port each.
    runner, port = await start_http(
        free_port(),
        metrics,
        unwell=lambda: None,
        unready=lambda: None if ready.is_set() else "not listed yet",
    )
    yield f"http://127.0.0.1:{port}", ready, metrics
    await runner.cleanup()


async def test_each_state(operator: tuple[str, asyncio.Event, Metrics]) -> None:
    url, ready, metrics = operator
    slept: list[float] = []

    async def said() -> str:
        return await asyncio.to_thread(check, url, tries=2, sleep=slept.append) or "works"

    assert "HTTP Error 503" in await said()
    ready.set()
    assert "diffusion_operator_leader is not 1" in await said()
    assert len(slept) == 2
    metrics.set_leader(True)
    assert await said() == "works"
    assert await asyncio.to_thread(main, [url + "/"]) == 0


def test_nobody_there_and_wrong_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert "refused" in (check("http://127.0.0.1:1", tries=1) or "")
    assert main(["file:///etc/passwd"]) == 2
    assert "usage:" in capsys.readouterr().err
