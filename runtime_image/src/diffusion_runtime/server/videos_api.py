"""The videos API on port 8000, in the shape that OpenAI gave it and other engines serve: create, look, fetch.

OpenAI withdrew its own in 2026; clients of the shape remain. A clip takes minutes, so `create` answers at
once and the client asks again. Clips end with the pod that drew them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from .body import json_body, limited
from .engine import Engine
from .openai_errors import ApiError, bad_field, from_engine
from .rank_group import Picture
from .video_request import MAX_INPUT_BYTES, parse_video_request, typed_form
from .videos import Video, Videos

Handler = Callable[[Request], Awaitable[Response]]
MAX_BODY_BYTES = MAX_INPUT_BYTES * 4 // 3 + 1024 * 1024  # a picture as base64, and the rest
MAX_LISTED = 100
DEFAULT_LISTED = 20


class VideosApi:
    """The handlers, with what they share."""

    def __init__(self, engine: Engine, videos: Videos, retry_after_s: Callable[[], int]) -> None:
        self._engine = engine
        self._rules = videos.rules
        self._videos = videos
        self._retry_after_s = retry_after_s

    def routes(self, answered: Callable[[Handler], Handler]) -> list[Route]:
        """`answered` makes errors of a handler an answer."""
        return [
            Route("/v1/videos", answered(self.create), methods=["POST"]),
            Route("/v1/videos", answered(self.listed), methods=["GET"]),
            Route("/v1/videos/{id}", answered(self.retrieve), methods=["GET"]),
            Route("/v1/videos/{id}", answered(self.delete), methods=["DELETE"]),
            Route("/v1/videos/{id}/content", answered(self.content), methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        """Accept a clip; it is drawn after those before it."""
        try:
            fields, reference = await _fields(request)
            wanted = parse_video_request(fields, self._rules, reference)
            try:
                job = self._engine.submit([wanted])
            except Exception as error:
                raise from_engine(error, self._retry_after_s()) from error
        except ApiError:
            self._engine.metrics.requests.labels("refused").inc()
            raise
        job.result.add_done_callback(self._count)
        return JSONResponse(self._described(self._videos.add(wanted, job)))

    async def listed(self, request: Request) -> Response:
        """Clips, the newest first or last; `after` is the last id of the page before."""
        limit = _limit(request.query_params.get("limit", str(DEFAULT_LISTED)))
        order = request.query_params.get("order", "desc")
        if order not in ("asc", "desc"):
            raise bad_field("order", f"order {order!r} must be 'asc' or 'desc'.")
        videos = self._videos.all()
        if order == "asc":
            videos.reverse()
        after = request.query_params.get("after")
        if after is not None:
            ids = [video.id for video in videos]
            if after not in ids:
                raise bad_field("after", f"after {after!r} is no video of this engine.")
            videos = videos[ids.index(after) + 1 :]
        page = videos[:limit]
        return JSONResponse(
            {
                "object": "list",
                "data": [self._described(video) for video in page],
                "first_id": page[0].id if page else None,
                "last_id": page[-1].id if page else None,
                "has_more": len(videos) > len(page),
            }
        )

    async def retrieve(self, request: Request) -> Response:
        """One clip's state."""
        return JSONResponse(self._described(self._known(request)))

    async def delete(self, request: Request) -> Response:
        """Forget a clip; one that waits is not drawn any more."""
        video = self._known(request)
        self._videos.remove(video)
        return JSONResponse({"id": video.id, "object": "video.deleted", "deleted": True})

    async def content(self, request: Request) -> Response:
        """The file; parts of it when the client asks for a range."""
        video = self._known(request)
        variant = request.query_params.get("variant", "video")
        if variant != "video":
            raise bad_field("variant", f"variant {variant!r} is not made here; this engine keeps 'video'.")
        if video.path is None:
            message = f"{video.id} is {video.status}: there is no file to fetch."
            raise ApiError(400, message, code="video_not_completed")
        return FileResponse(
            video.path,
            media_type="video/mp4",
            filename=f"{video.id}.mp4",
            background=BackgroundTask(self._videos.mark_collected, video),
        )

    def _count(self, result: asyncio.Future[list[Picture]]) -> None:
        drawn = not result.cancelled() and result.exception() is None
        self._engine.metrics.requests.labels("drawn" if drawn else "failed").inc()

    def _known(self, request: Request) -> Video:
        video = self._videos.get(request.path_params["id"])
        if video is None:
            message = (
                f"No video {request.path_params['id']!r} here. Clips are kept for "
                f"{self._videos.limits.kept_s / 60:g} minutes by the pod that drew them; a new pod has none."
            )
            raise ApiError(404, message, code="video_not_found")
        return video

    def _described(self, video: Video) -> dict[str, Any]:
        request = video.request
        expires_at = None if video.path is None else int((video.ended_at or 0) + self._videos.limits.kept_s)
        return {
            "id": video.id,
            "object": "video",
            "model": self._rules.pictures.model,
            "status": video.status,
            "progress": video.progress,
            "created_at": int(video.created_at),
            "completed_at": None if video.ended_at is None else int(video.ended_at),
            "expires_at": expires_at,
            "prompt": request.prompt,
            "size": f"{request.width}x{request.height}",
            "seconds": f"{request.frames / request.fps:g}",
            "num_frames": request.frames,
            "fps": request.fps,
            "two_stages": request.second_stage_steps > 0,
            "seed": request.seed,
            "remixed_from_video_id": None,
            "error": self._error(video),
        }

    def _error(self, video: Video) -> dict[str, str] | None:
        if video.error is None:
            return None
        try:
            told = from_engine(video.error, self._retry_after_s())
        except Exception:  # noqa: BLE001  # a bug of ours, which the log tells in full
            return {"code": "internal", "message": "The engine met a bug of its own; see its log."}
        return {"code": told.code, "message": told.message}


def refuse_videos(model: str) -> Handler:
    """The handler of every video call where the model draws pictures."""

    async def refuse(_: Request) -> Response:
        message = f"{model!r} draws pictures, not clips; use POST /v1/images/generations."
        raise ApiError(400, message, param="model", code="model_not_supported")

    return refuse


async def _fields(request: Request) -> tuple[Any, bytes | None]:
    """The fields of a form or a JSON body, and the file that a form brings."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/x-www-form-urlencoded"):
        return await json_body(request, MAX_BODY_BYTES), None
    bounded = limited(request, MAX_BODY_BYTES)
    try:
        async with bounded.form(max_files=1, max_fields=32, max_part_size=256 * 1024) as form:
            texts = {name: value for name, value in form.items() if isinstance(value, str)}
            files = {name: value for name, value in form.items() if isinstance(value, UploadFile)}
            unknown = next((name for name in files if name != "input_reference"), None)
            if unknown is not None:
                raise bad_field(unknown, f"{unknown} takes no file; the picture is input_reference.")
            reference = await files["input_reference"].read() if files else None
    except HTTPException as error:
        raise ApiError(400, f"The form cannot be read: {error.detail}", code="invalid_form") from error
    return typed_form(texts), reference


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > MAX_LISTED:
        raise bad_field("limit", f"limit {text!r} must be a number from 0 to {MAX_LISTED}.")
    return int(text)
