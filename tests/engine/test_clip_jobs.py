"""The videos API over ranks without torch: what is waiting, failed, deleted, full, too old or cut off."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from diffusion_runtime.loading.allowed import FAMILIES
from diffusion_runtime.planning.documents import Shape
from diffusion_runtime.server.api import build_api
from diffusion_runtime.server.engine import Engine
from diffusion_runtime.server.image_request import rules_of
from diffusion_runtime.server.limits import Limits
from diffusion_runtime.server.openai_errors import ApiError
from diffusion_runtime.server.video_request import VideoRules, parse_video_request
from diffusion_runtime.server.videos import VideoLimits, Videos
from diffusion_runtime.server.videos_api import MAX_BODY_BYTES
from engine.fake_group import QUICK, fake_engine, until
from engine.plans import cpu_execution, plan_for

SHAPE = Shape(width=64, height=64, frames=9, steps=4)
ASKED = {"prompt": "it moves", "seed": 7}


class Clock:
    """Seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Served:
    """A client, the engine behind it and its clips."""

    def __init__(self, engine: Engine, videos: Videos, clock: Clock, client: httpx.AsyncClient) -> None:
        self.engine, self.videos, self.clock, self.client = engine, videos, clock, client

    async def create(self, **fields: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/videos", json=ASKED | fields)
        assert answer.status_code == 200, answer.text
        document: dict[str, Any] = answer.json()
        return document

    async def ended(self, video_id: str) -> dict[str, Any]:
        """The clip when it has come to an end."""
        await until(lambda: self.videos.get(video_id) is None or self.videos.get(video_id).job is None)  # type: ignore[union-attr]
        document: dict[str, Any] = (await self.client.get(f"/v1/videos/{video_id}")).json()
        return document

    def files(self) -> list[str]:
        return sorted(path.name for path in self.videos._folder.iterdir())


@contextlib.asynccontextmanager
async def serving(
    folder: Path, script: list[dict[str, Any]], limits: Limits = QUICK, kept: VideoLimits | None = None
) -> AsyncIterator[Served]:
    plan = plan_for(cpu_execution(), shapes=(SHAPE,))
    engine = fake_engine(folder, plan, script, limits)
    pictures = rules_of(plan, 16, FAMILIES["wan"])
    clock = Clock()
    videos = Videos(VideoRules(pictures, 4, 16, (0, 0)), kept, clock)
    app = build_api(engine, pictures, videos)
    running = asyncio.create_task(engine.run())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        yield Served(engine, videos, clock, client)
    engine.drain()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    videos.close()
    assert not videos._folder.exists()


async def test_progress_follows_the_steps(tmp_path: Path) -> None:
    async with serving(tmp_path, [{"draw": "hang"}]) as served:
        first, second = await served.create(), await served.create()
        assert first["status"] in ("queued", "in_progress")
        await until(lambda: served.videos.get(first["id"]).progress == 25)  # type: ignore[union-attr]
        states = (await served.client.get("/v1/videos", params={"order": "asc"})).json()["data"]
        assert [(v["status"], v["progress"]) for v in states] == [("in_progress", 25), ("queued", 0)]
        unfinished = await served.client.get(f"/v1/videos/{second['id']}/content")
        assert unfinished.status_code == 400
        assert (
            unfinished.json()["error"]["message"] == f"{second['id']} is queued: there is no file to fetch."
        )


async def test_a_clip_is_a_file_until_it_is_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, [{}]) as served:
        video = await served.ended((await served.create())["id"])
        assert (video["status"], video["progress"], video["expires_at"]) == ("completed", 100, 4600)
        content = await served.client.get(f"/v1/videos/{video['id']}/content")
        assert (content.content, content.headers["content-type"]) == (b"picture 7", "video/mp4")
        assert served.files() == [f"{video['id']}.mp4"]
        assert (await served.client.delete(f"/v1/videos/{video['id']}")).json()["deleted"]
        assert served.files() == []
        assert (await served.client.get(f"/v1/videos/{video['id']}/content")).status_code == 404


async def test_a_clip_that_waits_is_not_drawn_once_it_is_deleted(tmp_path: Path) -> None:
    async with serving(tmp_path, [{}]) as served:
        kept, dropped = await served.create(), await served.create()
        await served.client.delete(f"/v1/videos/{dropped['id']}")
        await served.ended(kept["id"])
        await served.engine.queue.idle.wait()
        assert "diffusion_engine_pictures_total 1.0" in served.engine.metrics.text().decode()


async def test_old_clips_and_those_beyond_the_bounds_go_first(tmp_path: Path) -> None:
    bounds = VideoLimits(kept=3, kept_bytes=20, kept_s=60.0)  # a fake clip has 9 bytes
    async with serving(tmp_path, [{}], kept=bounds) as served:
        ids = []
        for _ in range(3):
            served.clock.now += 10
            ids.append((await served.ended((await served.create())["id"]))["id"])
        assert served.files() == sorted(f"{video}.mp4" for video in ids[1:]), "three would be 27 bytes"
        served.clock.now += 55
        listed = (await served.client.get("/v1/videos")).json()
        assert [video["id"] for video in listed["data"]] == [ids[2]], "the other is 65 seconds old"
        gone = await served.client.get(f"/v1/videos/{ids[1]}")
        assert gone.status_code == 404
        assert "Clips are kept for 1 minutes by the pod that drew them" in gone.json()["error"]["message"]


async def test_a_lost_group_fails_the_clip_and_says_to_send_it_again(tmp_path: Path) -> None:
    async with serving(tmp_path, [{"draw": "crash"}, {}]) as served:
        video = await served.ended((await served.create())["id"])
        assert video["status"] == "failed"
        assert video["error"]["code"] == "rank_group_restarted"
        assert "Send it again" in video["error"]["message"]
        assert (await served.ended((await served.create())["id"]))["status"] == "completed"


async def test_a_full_queue_is_told_with_the_time_to_come_back(tmp_path: Path) -> None:
    limits = replace(QUICK, queue_capacity=1)
    async with serving(tmp_path, [{"draw": "hang"}], limits) as served:
        running = await served.create()
        await until(lambda: served.videos.get(running["id"]).status == "in_progress")  # type: ignore[union-attr]
        await served.create()
        full = await served.client.post("/v1/videos", json=ASKED)
        assert full.status_code == 429
        assert int(full.headers["retry-after"]) >= 1
        assert len(served.videos.all()) == 2


async def test_nobody_waits_for_clips_that_were_done_before(tmp_path: Path) -> None:
    async with serving(tmp_path, [{}]) as served:
        await served.ended((await served.create())["id"])
        served.clock.now += 1
        served.videos.drain()
        # It ends quietly when its own minute is over; here it must not wait at all.
        async with asyncio.timeout(5):
            await served.videos.all_collected(60)
        assert served.files() != []


async def test_a_draining_engine_finishes_its_clips_and_waits_until_they_are_fetched(tmp_path: Path) -> None:
    async with serving(tmp_path, [{}]) as served:
        video = await served.create()
        served.engine.drain()
        served.videos.drain()
        assert (await served.ended(video["id"]))["status"] == "completed"
        await until(lambda: not served.engine._accepting)
        assert (await served.client.post("/v1/videos", json=ASKED)).status_code == 503
        waiting = asyncio.create_task(served.videos.all_collected(60))
        await asyncio.sleep(0)
        assert not waiting.done()
        await served.client.get(f"/v1/videos/{video['id']}/content")
        await waiting


@pytest.mark.parametrize(
    ("request_arguments", "status", "words"),
    [
        ({"content": b"x" * (MAX_BODY_BYTES + 1)}, 413, "larger than"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "not valid JSON"),
        ({"content": b"--", "headers": {"content-type": "multipart/form-data"}}, 400, "form cannot be read"),
        ({"data": {"prompt": "a"}, "files": {"mask": b"x"}}, 400, "mask takes no file"),
        ({"data": {"prompt": "a"}, "files": {"input_reference": b"x"}}, 400, "from text alone"),
        ({"data": {"prompt": "a", "seed": "x"}}, 400, "seed must be an integer, not a string"),
        ({"json": {"prompt": "a", "input_reference": {"file_id": "file-1"}}}, 400, "keeps no files"),
        ({"json": [1]}, 400, "must be a form or a JSON object"),
    ],
)
async def test_bodies_that_are_wrong(
    tmp_path: Path, request_arguments: dict[str, Any], status: int, words: str
) -> None:
    async with serving(tmp_path, [{}]) as served:
        answer = await served.client.post("/v1/videos", **request_arguments)
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": " "}, "prompt", "empty"),
        ({"num_frames": 6}, "num_frames", "a multiple of 4 plus one, such as 5"),
        ({"seconds": "12"}, "seconds", "64x64 with 193 frames is too large: memory was planned for 64x64"),
        ({"seconds": "1", "num_frames": 5}, "seconds", "both set"),
        ({"seconds": "soon"}, "seconds", "must be a number above 0"),
        ({"fps": 0}, "fps", "above 0"),
        ({"size": "33x48"}, "size", "multiples of 16"),
        ({"lora": "x"}, "lora", "Unknown field"),
        ({"n": 2}, "n", "out of range"),
        ({"model": "sora-2"}, "model", "is not served here"),
        ({"input_reference": {"image_url": "https://example.org/a.png"}}, "input_reference", "no addresses"),
        ({"input_reference": {"image_url": "data:image/png;base64,?"}}, "input_reference", "base64"),
    ],
)
async def test_wrong_fields_are_named(tmp_path: Path, fields: dict[str, Any], param: str, words: str) -> None:
    async with serving(tmp_path, [{}]) as served:
        error = (await served.client.post("/v1/videos", json=ASKED | fields)).json()["error"]
        assert error["param"] == param
        assert words in error["message"]


async def test_only_planned_lengths_where_others_are_refused(tmp_path: Path) -> None:
    async with serving(tmp_path, [{}]) as served:
        rules = served.videos.rules
        strict = replace(rules, pictures=replace(rules.pictures, only_these_sizes=True))
        with pytest.raises(ApiError, match="64x64 with 5 frames is not among the sizes planned"):
            parse_video_request(ASKED | {"num_frames": 5}, strict)
        assert parse_video_request(ASKED, strict).frames == 9


async def test_a_model_for_both_takes_a_picture_or_none(tmp_path: Path) -> None:
    async with serving(tmp_path, [{}]) as served:
        both = replace(served.videos.rules, input_images=(0, 1))
        assert parse_video_request(ASKED, both).input_images == ()
        assert parse_video_request(ASKED, both, b"file").input_images == (b"file",)


async def test_pictures_are_refused_where_clips_are_made(tmp_path: Path) -> None:
    async with serving(tmp_path, [{}]) as served:
        answer = await served.client.post("/v1/images/generations", json={"prompt": "a"})
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "'demo' makes clips, not pictures; use POST /v1/videos."


@pytest.mark.parametrize("path", ["/v1/videos?limit=101", "/v1/videos?order=up", "/v1/videos?after=video_1"])
async def test_pages_that_are_wrong(tmp_path: Path, path: str) -> None:
    async with serving(tmp_path, [{}]) as served:
        assert (await served.client.get(path)).status_code == 400


async def test_clips_are_refused_where_pictures_are_drawn(tmp_path: Path) -> None:
    plan = plan_for(cpu_execution())
    app = build_api(fake_engine(tmp_path, plan, [{}]), rules_of(plan, 16, FAMILIES["qwen-image"]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        for answer in (
            await client.post("/v1/videos", json=ASKED),
            await client.get("/v1/videos/video_1/content"),
        ):
            assert answer.status_code == 400
            assert answer.json()["error"]["message"] == (
                "'demo' draws pictures, not clips; use POST /v1/images/generations."
            )
