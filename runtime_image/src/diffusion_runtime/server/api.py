"""Port 8000: the OpenAI images call and the model list.

Turns HTTP into jobs and jobs into HTTP, nothing more.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
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
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .api_key import ApiKey, KeyGate
from .body import json_body
from .engine import Engine
from .image_edits import edit_form
from .image_request import ImagesRequest, PictureRules, parse_images_request
from .jobs import Job
from .openai_errors import ApiError, from_engine
from .rank_group import Picture
from .videos import Videos
from .videos_api import VideosApi, refuse_videos

MAX_BODY_BYTES = 1024 * 1024
DISCONNECT_POLL_S = 0.5
DEFAULT_RETRY_S = 10
REQUEST_ID = re.compile(r"[\w.:-]{1,128}")

logger = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


def build_api(
    engine: Engine, rules: PictureRules, videos: Videos | None = None, key: ApiKey | None = None
) -> Starlette:
    """The public application: pictures, or clips where there are `videos`.

    Every answer carries x-request-id and x-diffusion-plan. With a `key`, every path asks for it.
    """
    api = Api(engine, rules)
    gate = [] if key is None else [Middleware(KeyGate, key=key, answer=api.with_headers)]
    if videos is None:
        refuse = api.answered(refuse_videos(rules.model))
        methods = ["POST", "GET", "DELETE"]
        clips = [Route(path, refuse, methods=methods) for path in ("/v1/videos", "/v1/videos/{rest:path}")]
    else:
        clips = VideosApi(engine, videos, api.retry_after_s).routes(api.answered)
    edits = rules.input_images[0] > 0
    generate = api.refuse_pictures if videos is not None else api.refuse_generation if edits else api.generate
    edit = api.refuse_pictures if videos is not None else api.edit if edits else api.refuse_edits
    return Starlette(
        middleware=gate,
        routes=[
            Route("/v1/images/generations", api.answered(generate), methods=["POST"]),
            Route("/v1/images/edits", api.answered(edit), methods=["POST"]),
            *clips,
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

        async def parsed() -> ImagesRequest:
            return parse_images_request(await json_body(request, MAX_BODY_BYTES), self._rules)

        return await self._draw(request, parsed)

    async def edit(self, request: Request) -> Response:
        """Draw pictures from the pictures of a form."""

        async def parsed() -> ImagesRequest:
            fields, pictures = await edit_form(request, self._rules)
            return parse_images_request(fields, self._rules, input_images=pictures)

        return await self._draw(request, parsed)

    async def _draw(self, request: Request, parsed: Callable[[], Awaitable[ImagesRequest]]) -> Response:
        outcome = "refused"
        try:
            wanted = await parsed()
            outcome = "failed"
            try:
                job = self._engine.submit(wanted.pictures)
                pictures = await _result(job, request)
                drawn = self._drawn_headers(job, wanted.pictures[0].guided)
            except Exception as error:
                raise from_engine(error, self.retry_after_s()) from error
            outcome = "drawn"
        except ApiError as error:
            outcome = "refused" if error.status < 500 else outcome
            raise
        finally:
            self._engine.metrics.requests.labels(outcome).inc()
        return JSONResponse(_body(wanted, pictures), headers=drawn)

    async def refuse_pictures(self, _: Request) -> Response:
        """The pictures call where the model makes clips."""
        message = f"{self._rules.model!r} makes clips, not pictures; use POST /v1/videos."
        raise ApiError(400, message, param="model", code="model_not_supported")

    async def refuse_generation(self, _: Request) -> Response:
        """The generations call where the model edits pictures."""
        message = f"{self._rules.model!r} edits pictures; send them to POST /v1/images/edits."
        raise ApiError(400, message, param="model", code="model_not_supported")

    async def refuse_edits(self, _: Request) -> Response:
        """The edits call where the model draws from words alone."""
        message = f"{self._rules.model!r} draws from words alone; use POST /v1/images/generations."
        raise ApiError(400, message, param="model", code="model_not_supported")

    def _model(self) -> dict[str, Any]:
        return {"id": self._rules.model, "object": "model", "created": 0, "owned_by": "diffusion-operator"}

    def _drawn_headers(self, job: Job, guided: bool) -> dict[str, str]:
        """How the pictures were drawn: with compiled blocks or not, by the plan or by a fallback of it, and
        on how many ranks for nothing: without guidance there is no second branch for them to compute.
        """
        report = self._engine.report
        layout = self._engine.executing.layout
        idle = 0 if guided else layout.ranks - layout.ranks // layout.cfg
        compiled = bool(job.pictures) and all(picture.compiled for picture in job.pictures)
        fallback = job.executed not in ("", report.plan_hash)
        return {
            "x-diffusion-compiled": str(compiled).lower(),
            "x-diffusion-fallback": str(fallback).lower(),
            "x-diffusion-idle-ranks": str(idle),
        }

    def retry_after_s(self) -> int:
        """When the queue of now should be worked off, by what the last picture took."""
        seconds = self._engine.report.seconds_per_request
        if seconds is None:
            return DEFAULT_RETRY_S
        return max(1, math.ceil(seconds * (1 + self._engine.queue.ahead)))


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
