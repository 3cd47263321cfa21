"""Pictures or clips without a server: the same engine and the same rank processes, for one request."""

from __future__ import annotations

import asyncio
from typing import Any

from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.planning.documents import EngineReport, Plan

from .image_request import numbered, parse_images_request
from .limits import Limits
from .rank_group import GroupFailed, Picture
from .start import PreparedEngine, prepare
from .termination import EXIT_FAILED, EngineEnded
from .video_request import parse_video_request

LIMITS = Limits(max_group_failures=1, drain_grace_s=0.0)  # one request: a second try is the user's


def draw_once(
    plan: Plan, body: dict[str, Any], picture: bytes | None = None
) -> tuple[tuple[PictureRequest, ...], list[Picture], EngineReport]:
    """Follow the plan, draw what `body` (the fields of the images or the videos call) says, end.

    `picture`: the file that a clip begins with. `n` counts pictures or clips.

    One rank that runs out of memory goes on with the plan's next fallback. Raises ApiError for a bad field,
    EngineRefusal, EngineEnded or UndrawableRequest.
    """
    return asyncio.run(_draw(plan, body, picture))


async def _draw(
    plan: Plan, body: dict[str, Any], picture: bytes | None
) -> tuple[tuple[PictureRequest, ...], list[Picture], EngineReport]:
    prepared = prepare(plan, LIMITS)
    engine = prepared.engine
    wanted = _requests(prepared, body, picture)
    job = engine.submit(wanted)
    running = asyncio.create_task(engine.run())
    engine.drain()  # it ends as soon as this request is answered
    await asyncio.gather(running, return_exceptions=True)
    if job.result.done() and job.result.exception() is None:
        return wanted, job.result.result(), engine.report
    await running  # the engine's own end says more than the job's
    try:
        return wanted, await job.result, engine.report
    except GroupFailed as lost:  # the engine would have gone on with a fallback
        raise EngineEnded(EXIT_FAILED, lost.failure) from lost


def _requests(
    prepared: PreparedEngine, body: dict[str, Any], picture: bytes | None
) -> tuple[PictureRequest, ...]:
    if prepared.videos is None:
        return parse_images_request(body, prepared.rules).pictures
    clip = parse_video_request(body | {"n": 1}, prepared.videos, picture)
    return numbered(clip, body.get("n", 1))
