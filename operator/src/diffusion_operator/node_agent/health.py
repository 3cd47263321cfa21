"""The agent's probes over HTTP: Ready is what makes its report count, so it is never a formality."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web


async def start_probes(
    port: int, not_ready: Callable[[], str | None], stuck: Callable[[], str | None]
) -> web.AppRunner:
    """Serve /readyz and /livez; returns the runner, to be cleaned up."""

    def answer(ask: Callable[[], str | None]) -> Callable[[web.Request], object]:
        async def handler(_: web.Request) -> web.Response:
            problem = ask()
            return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

        return handler

    application = web.Application()
    application.router.add_get("/readyz", answer(not_ready))  # type: ignore[arg-type]
    application.router.add_get("/livez", answer(stuck))  # type: ignore[arg-type]
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
