"""An HTTP proxy on loopback in front of an API server: it refuses, delays, cuts, and loses answers.

A share of all requests is struck, by chance with a seed. It knows no Kubernetes beyond what a watch is.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

FAULTS = ("500", "429", "410", "reset", "answer lost", "cut", "half a line", "slow")
ANSWERS = ("409", "429", "500", "503", "slow")
"""What an API server that has too much to do, or to whom others write too, answers by itself."""
SLOW_S = 2.0
KEPT_HEADERS = ("Authorization", "Accept", "Content-Type", "User-Agent")


@dataclass
class FaultProxy:
    """`share` of the requests is struck while it is above zero, each with one of `kinds`; `struck` counts
    by kind.
    """

    target: str
    seed: int = 1
    share: float = 0.0
    kinds: tuple[str, ...] = FAULTS
    url: str = ""
    struck: Counter[str] = field(default_factory=Counter)
    _session: aiohttp.ClientSession | None = None

    async def start(self) -> web.AppRunner:
        self._chance = random.Random(self.seed)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, ssl=False))
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self._chance.choice(self.kinds) if self._chance.random() < self.share else ""
        watches = request.query.get("watch") == "true"
        if fault in ("cut", "half a line") and not watches:
            fault = "answer lost"
        if fault:
            self.struck[fault] += 1
        if fault == "slow":
            await asyncio.sleep(SLOW_S)
        if fault == "reset":
            return _reset(request)
        if fault.isdigit():
            headers = {"Retry-After": "1"} if fault in ("429", "503") else {}
            status = {"kind": "Status", "code": int(fault), "message": "struck by the proxy"}
            return web.json_response(status, status=int(fault), headers=headers)
        headers = {name: request.headers[name] for name in KEPT_HEADERS if name in request.headers}
        assert self._session is not None
        url, body = f"{self.target}{request.path_qs}", await request.read()
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.request(
            request.method,
            url,
            data=body or None,
            headers=headers,
            skip_auto_headers=("Content-Type", "Accept", "User-Agent"),
            timeout=timeout,
        ) as answer:
            if fault == "answer lost":
                await answer.read()
                return _reset(request)
            return await self._pass_on(request, answer, fault)

    async def _pass_on(
        self, request: web.Request, answer: aiohttp.ClientResponse, fault: str
    ) -> web.StreamResponse:
        headers = {
            name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers
        }
        passed = web.StreamResponse(status=answer.status, headers=headers)
        await passed.prepare(request)
        async for chunk in answer.content.iter_any():
            if fault == "cut":
                return passed
            if fault == "half a line":
                await passed.write(chunk[: max(1, len(chunk) // 2)])
                return passed
            await passed.write(chunk)
        return passed


def _reset(request: web.Request) -> web.Response:
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


@contextmanager
def fault_proxy(target: str) -> Iterator[FaultProxy]:
    """A proxy in a thread of its own; nothing is struck before `share` is set."""
    proxy, loop, up = FaultProxy(target), asyncio.new_event_loop(), threading.Event()
    stop = asyncio.Event()

    async def live() -> None:
        runner = await proxy.start()
        up.set()
        await stop.wait()
        await proxy.close()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(live()))
    thread.start()
    try:
        assert up.wait(10)
        yield proxy
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()
