"""The operator's own probes and metrics over HTTP. Reads only; it can change nothing."""

from __future__ import annotations

import asyncio

from aiohttp import web

from diffusion_operator.reconcile.metrics import Metrics


async def start_http(port: int, ready: asyncio.Event, metrics: Metrics) -> tuple[web.AppRunner, int]:
    """Serve /livez, /readyz and /metrics; returns the runner (clean it up) and the port in use.

    /livez answers while the event loop runs; what dies ends the process. /readyz waits for the first list.
    """

    async def live(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readiness(_: web.Request) -> web.Response:
        if ready.is_set():
            return web.Response(text="ok\n")
        return web.Response(status=503, text="the first list of DiffusionDeployments is not done\n")

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        )

    application = web.Application()
    application.add_routes(
        [web.get("/livez", live), web.get("/readyz", readiness), web.get("/metrics", show_metrics)]
    )
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, port=port)
    await site.start()
    addresses = runner.addresses
    return runner, int(addresses[0][1])
