"""The videos API of a real server with real ranks, asked with the openai package: small Wan pipelines.

One server makes clips from text, one from a picture.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import openai
import pytest
from PIL import Image

from builders.small_videos import SMALL_VIDEOS
from diffusion_runtime.loading.folder import open_folder
from diffusion_runtime.planning.documents import ModelRef, Residency, Shape
from engine.plans import cpu_execution, plan_for
from engine.real_server import RealServer, serving

SHAPE = Shape(width=48, height=32, frames=9, steps=2)
WAIT_SECONDS = 120.0
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # every videos call of the package is


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    folder = tmp_path_factory.mktemp("text")
    with served("wan", folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RealServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.api}/v1", api_key="none", max_retries=0) as asking:
        yield asking


def served(name: str, folder: Path) -> Any:
    model = folder / name
    SMALL_VIDEOS[name](model)
    kinds = open_folder(model).kinds
    execution = cpu_execution(
        residency=dict.fromkeys(kinds, Residency(mode="component")), dtype=dict.fromkeys(kinds, "float32")
    )
    reference = ModelRef(name=name, family="wan", source="path", path=str(model))
    return serving(plan_for(execution, model=reference, shapes=(SHAPE,)), folder)


def finished(client: openai.OpenAI, video_id: str) -> Any:
    """The clip when it has come to an end."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (video := client.videos.retrieve(video_id)).status in ("queued", "in_progress"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return video


def frames_of(file: bytes) -> tuple[int, int, int, float]:
    """Frames, width, height, rate."""
    with av.open(io.BytesIO(file)) as container:
        stream = container.streams.video[0]
        count = sum(1 for _ in container.decode(video=0))
        return count, stream.width, stream.height, float(stream.average_rate or 0)


def test_a_clip_is_asked_for_followed_and_fetched(client: openai.OpenAI, server: RealServer) -> None:
    asked = client.videos.create(
        prompt="a red circle", model="wan", size="32x48", extra_body={"num_frames": 5, "fps": 8, "seed": 3}
    )
    assert asked.status in ("queued", "in_progress")
    assert (asked.object, asked.size, asked.seconds, asked.model) == ("video", "32x48", "0.625", "wan")
    done = finished(client, asked.id)
    assert (done.status, done.progress, done.error) == ("completed", 100, None)
    assert done.completed_at is not None
    assert done.expires_at == done.completed_at + 3600
    file = client.videos.download_content(asked.id).content
    assert frames_of(file) == (5, 32, 48, 8.0)
    part = httpx.get(f"{server.api}/v1/videos/{asked.id}/content", headers={"Range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert part.headers["content-type"] == "video/mp4"

    again = client.videos.create(
        prompt="a red circle", size="32x48", extra_body={"num_frames": 5, "fps": 8, "seed": 3}
    )
    assert finished(client, again.id).status == "completed"
    assert client.videos.download_content(again.id).content == file, "same seed, same clip"


def test_clips_are_listed_and_deleted(client: openai.OpenAI, server: RealServer) -> None:
    known = {video.id for video in client.videos.list(limit=100)}
    ids = [client.videos.create(prompt=f"clip {letter}").id for letter in "abc"]
    deleted = client.videos.delete(ids[1])
    assert (deleted.deleted, deleted.object) == (True, "video.deleted")
    page = client.videos.list(limit=1)
    assert [video.id for video in page.data] == [ids[2]]
    assert page.has_more
    listed = [video.id for video in client.videos.list(limit=2, order="asc") if video.id not in known]
    assert listed == [ids[0], ids[2]], "pages follow each other"
    with pytest.raises(openai.NotFoundError, match="by the pod that drew them"):
        client.videos.retrieve(ids[1])
    for video_id in (ids[0], ids[2]):
        assert finished(client, video_id).status == "completed"
    text = httpx.get(f"{server.management}/metrics").text
    assert 'diffusion_engine_requests_total{outcome="drawn"}' in text


def test_seconds_are_text_as_openai_sends_them(client: openai.OpenAI) -> None:
    video = client.videos.create(prompt="short", seconds="0.5")  # type: ignore[arg-type]
    assert video.model_extra is not None
    assert (video.model_extra["num_frames"], video.seconds) == (9, "0.5625")
    assert frames_of_finished(client, video.id) == (9, 48, 32, 16.0)


def frames_of_finished(client: openai.OpenAI, video_id: str) -> tuple[int, int, int, float]:
    assert finished(client, video_id).status == "completed"
    return frames_of(client.videos.download_content(video_id).content)


def test_what_the_ranks_refuse_is_told_with_the_clip(client: openai.OpenAI) -> None:
    done = finished(client, client.videos.create(prompt="red " * 600).id)
    assert done.status == "failed"
    assert done.error is not None
    assert done.error.code == "invalid_value"
    assert "Wan reads at most 512" in done.error.message
    with pytest.raises(openai.BadRequestError, match="there is no file to fetch"):
        client.videos.download_content(done.id)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"prompt": " "}, "prompt", "empty"),
        ({"prompt": "a", "num_frames": 6}, "num_frames", "a multiple of 4 plus one, such as 5"),
        ({"prompt": "a", "seconds": "12"}, "seconds", "is too large: memory was planned for 48x32 with 9"),
        ({"prompt": "a", "seconds": "1", "num_frames": 5}, "seconds", "both set"),
        ({"prompt": "a", "fps": 0}, "fps", "above 0"),
        ({"prompt": "a", "size": "33x48"}, "size", "multiples of 16"),
        ({"prompt": "a", "lora": "x"}, "lora", "Unknown field"),
        (
            {"prompt": "a", "input_reference": {"image_url": "data:image/png;base64,AAAA"}},
            "input_reference",
            "text",
        ),
        ({"prompt": "a", "n": 2}, "n", "out of range"),
    ],
)
def test_wrong_fields_are_named(server: RealServer, fields: dict[str, Any], param: str, words: str) -> None:
    answer = httpx.post(f"{server.api}/v1/videos", json=fields)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"] == param
    assert words in error["message"]


def test_pictures_are_refused_where_clips_are_made(server: RealServer) -> None:
    answer = server.post(prompt="a")
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "'wan' makes clips, not pictures; use POST /v1/videos."


def test_a_clip_begins_with_the_picture_of_the_form(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (70, 40), (200, 20, 20, 255)).save(file, "PNG")
    with (
        served("wan-i2v", tmp_path) as server,
        openai.OpenAI(base_url=f"{server.api}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(openai.BadRequestError, match="makes a clip from a picture: send one"):
            client.videos.create(prompt="it moves")
        sent = client.videos.create(prompt="it moves", input_reference=("a.png", file.getvalue()))
        assert frames_of_finished(client, sent.id) == (9, 48, 32, 16.0)
        wrong = client.videos.create(prompt="it moves", input_reference=("a.png", b"no picture"))
        done = finished(client, wrong.id)
        assert done.error is not None
        assert "input_reference is no picture" in done.error.message
