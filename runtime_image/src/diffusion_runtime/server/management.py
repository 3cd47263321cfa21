"""Port 9000: probes, metrics and the report.

For kubelet, Prometheus and the operator; never in the Service, no key.
"""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from .engine import Engine


def build_management(engine: Engine) -> Starlette:
    """Live while the parent answers; started once the first group was ready; ready while it serves."""
    started = False

    async def livez(_: Request) -> Response:
        return PlainTextResponse("ok")

    async def startupz(_: Request) -> Response:
        nonlocal started
        started = started or engine.report.load_seconds is not None
        return PlainTextResponse("started" if started else engine.report.state, 200 if started else 503)

    async def readyz(_: Request) -> Response:
        return PlainTextResponse(engine.report.state, 200 if engine.ready else 503)

    async def metrics(_: Request) -> Response:
        return Response(engine.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    async def report(_: Request) -> Response:
        return Response(engine.report_now().to_json(), media_type="application/json")

    routes = {
        "/livez": livez,
        "/startupz": startupz,
        "/readyz": readyz,
        "/metrics": metrics,
        "/v1/report": report,
    }
    return Starlette(routes=[Route(path, handler) for path, handler in routes.items()])
