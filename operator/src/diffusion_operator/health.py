"""The operator's own probes and metrics over HTTP. Reads only; it can change nothing."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from diffusion_operator.reconcile.metrics import Metrics

Problem = Callable[[], str | None]


async def start_http(
    port: int, metrics: Metrics, *, unwell: Problem, unready: Problem
) -> tuple[web.AppRunner, int]:
    """Serve /livez, /readyz and /metrics; returns the runner (clean it up) and the port in use.

    Both probes ask for a problem in words. A loop that hangs answers nothing; what dies ends the process.
    """

    async def live(_: web.Request) -> web.Response:
        return _probe(unwell())

    async def readiness(_: web.Request) -> web.Response:
        return _probe(unready())

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


def _probe(problem: str | None) -> web.Response:
    return web.Response(text="ok\n") if problem is None else web.Response(status=503, text=f"{problem}\n")
