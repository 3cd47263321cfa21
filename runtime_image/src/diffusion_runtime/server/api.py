"""Port 8000: the OpenAI images call and the model list.

Turns HTTP into jobs and jobs into HTTP, nothing more.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .api_key import ApiKey, KeyGate
from .engine import Engine
from .image_request import ImagesRequest, PictureRules, parse_images_request
from .jobs import Job
from .openai_errors import ApiError, from_engine
from .rank_group import Picture

MAX_BODY_BYTES = 1024 * 1024
DISCONNECT_POLL_S = 0.5
DEFAULT_RETRY_S = 10
REQUEST_ID = re.compile(r"[\w.:-]{1,128}")

logger = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


def build_api(engine: Engine, rules: PictureRules, key: ApiKey | None = None) -> Starlette:
    """The public application. Every answer carries x-request-id and x-diffusion-plan.

    With a `key`, every path asks for it.
    """
    api = Api(engine, rules)
    gate = [] if key is None else [Middleware(KeyGate, key=key, answer=api.with_headers)]
    return Starlette(
        middleware=gate,
        routes=[
            Route("/v1/images/generations", api.answered(api.generate), methods=["POST"]),
            Route("/v1/models", api.answered(api.models), methods=["GET"]),
            Route("/v1/models/{model:path}", api.answered(api.model), methods=["GET"]),
        ],
        exception_handlers={HTTPException: api.answered_error},
    )


class Api:
    """The handlers, with what they share."""

    def __init__(self, engine: Engine, rules: PictureRules) -> None:
        self._engine = engine
        self._rules = rules

    def answered(self, handler: Handler) -> Handler:
        """A handler whose errors become OpenAI error objects, counted, with our headers on every answer."""

        async def answer(request: Request) -> Response:
            try:
                response = await handler(request)
            except ApiError as error:
                response = error.response()
            except Exception:
                logger.exception("bug in %s", request.url.path)
                response = ApiError(
                    500, "The engine met a bug of its own; see its log.", code="internal"
                ).response()
            return self.with_headers(request, response)

        return answer

    def with_headers(self, request: Request, response: Response) -> Response:
        """The same answer with our two headers."""
        given = request.headers.get("x-request-id", "")
        response.headers["x-request-id"] = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        response.headers["x-diffusion-plan"] = self._engine.report.executing_hash
        return response

    async def answered_error(self, request: Request, error: Exception) -> Response:
        """No such route or method."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = f"{request.method} {request.url.path} is not served here."
        code = "method_not_allowed" if status == 405 else "not_found"
        return self.with_headers(request, ApiError(status, message, code=code).response())

    async def models(self, _: Request) -> Response:
        """The one model of this engine, as a list."""
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        """One model by name."""
        name = request.path_params["model"]
        if name != self._rules.model:
            message = f"model {name!r} is not served here; this engine serves {self._rules.model!r}."
            raise ApiError(404, message, param="model", code="model_not_found")
        return JSONResponse(self._model())

    async def generate(self, request: Request) -> Response:
        """Draw pictures; waits in the queue, then for the ranks."""
        outcome = "refused"
        try:
            wanted = parse_images_request(await _json_body(request), self._rules)
            outcome = "failed"
            try:
                job = self._engine.submit(wanted.pictures)
                pictures = await _result(job, request)
                drawn = self._drawn_headers(job)
            except Exception as error:
                raise from_engine(error, self._retry_after_s()) from error
            outcome = "drawn"
        except ApiError as error:
            outcome = "refused" if error.status < 500 else outcome
            raise
        finally:
            self._engine.metrics.requests.labels(outcome).inc()
        return JSONResponse(_body(wanted, pictures), headers=drawn)

    def _model(self) -> dict[str, Any]:
        return {"id": self._rules.model, "object": "model", "created": 0, "owned_by": "diffusion-operator"}

    def _drawn_headers(self, job: Job) -> dict[str, str]:
        """How the pictures were drawn: with compiled blocks or not, by the plan or by a fallback of it."""
        report = self._engine.report
        compiled = bool(job.pictures) and all(picture.compiled for picture in job.pictures)
        fallback = job.executed not in ("", report.plan_hash)
        return {
            "x-diffusion-compiled": str(compiled).lower(),
            "x-diffusion-fallback": str(fallback).lower(),
        }

    def _retry_after_s(self) -> int:
        """When the queue of now should be worked off, by what the last picture took."""
        seconds = self._engine.report.seconds_per_request
        if seconds is None:
            return DEFAULT_RETRY_S
        return max(1, math.ceil(seconds * (1 + self._engine.queue.ahead)))


async def _json_body(request: Request) -> Any:
    """The parsed body; 413 beyond the limit, read no further; 400 when it is no JSON."""
    chunks = bytearray()
    try:
        async for chunk in request.stream():
            chunks += chunk
            if len(chunks) > MAX_BODY_BYTES:
                raise ApiError(413, f"The body is larger than {MAX_BODY_BYTES} bytes.", code="body_too_large")
    except ClientDisconnect as gone:
        raise ApiError(400, "The client hung up before the body's end.", code="client_disconnected") from gone
    try:
        return json.loads(bytes(chunks))
    except (ValueError, RecursionError) as error:
        raise ApiError(400, f"The body is not valid JSON: {error}.", code="invalid_json") from error


async def _result(job: Job, request: Request) -> list[Picture]:
    """The job's pictures. A client that hangs up abandons what is not yet drawn."""
    while True:
        done, _ = await asyncio.wait({job.result}, timeout=DISCONNECT_POLL_S)
        if done:
            return job.result.result()
        with contextlib.suppress(RuntimeError):
            job.abandoned = await request.is_disconnected()


def _body(wanted: ImagesRequest, pictures: list[Picture]) -> dict[str, Any]:
    data = [
        {"b64_json": base64.b64encode(picture.body).decode(), "seed": request.seed}
        for request, picture in zip(wanted.pictures, pictures, strict=False)
    ]
    first = wanted.pictures[0]
    return {
        "created": int(time.time()),
        "data": data,
        "output_format": wanted.output_format,
        "size": f"{first.width}x{first.height}",
        "background": "opaque",
    }
