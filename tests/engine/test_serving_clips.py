"""The videos API of a real server with a real rank, asked with the openai package: a small Wan 2.1 pipeline
that makes clips from a picture.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any

import av
import httpx
import openai
import pytest
from PIL import Image

from builders.parity_families import write_folder
from diffusion_runtime.loading.folder import open_folder
from diffusion_runtime.planning.documents import ModelRef, Residency, Shape
from engine.plans import cpu_execution, plan_for
from engine.real_server import RealServer, serving

SHAPE = Shape(width=48, height=32, frames=9, steps=2)
WAIT_SECONDS = 120.0
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # every videos call of the package is


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    root = tmp_path_factory.mktemp("clips")
    folder = write_folder("wan-i2v", root)
    kinds = open_folder(folder).kinds
    execution = cpu_execution(
        residency=dict.fromkeys(kinds, Residency(mode="component")), dtype=dict.fromkeys(kinds, "float32")
    )
    model = ModelRef(name="wan", family="wan", source="path", path=str(folder))
    with serving(plan_for(execution, model=model, shapes=(SHAPE,)), root) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RealServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.api}/v1", api_key="none", max_retries=0) as asking:
        yield asking


@pytest.fixture(scope="module")
def picture() -> tuple[str, bytes]:
    file = io.BytesIO()
    Image.new("RGBA", (70, 40), (200, 20, 20, 255)).save(file, "PNG")
    return "first.png", file.getvalue()


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


def test_a_clip_is_asked_for_followed_and_fetched(
    client: openai.OpenAI, server: RealServer, picture: tuple[str, bytes]
) -> None:
    own: dict[str, Any] = {"num_frames": 5, "fps": 8, "seed": 3}
    asked = client.videos.create(
        prompt="it moves", model="wan", size="32x48", input_reference=picture, extra_body=own
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

    again = client.videos.create(prompt="it moves", size="32x48", input_reference=picture, extra_body=own)
    assert finished(client, again.id).status == "completed"
    assert client.videos.download_content(again.id).content == file, "same seed, same clip"


def test_clips_are_listed_and_deleted(client: openai.OpenAI, picture: tuple[str, bytes]) -> None:
    known = {video.id for video in client.videos.list(limit=100)}
    ids = [client.videos.create(prompt=f"clip {letter}", input_reference=picture).id for letter in "abc"]
    deleted = client.videos.delete(ids[1])
    assert (deleted.deleted, deleted.object) == (True, "video.deleted")
    page = client.videos.list(limit=1)
    assert [video.id for video in page.data] == [ids[2]]
    assert page.has_more
    listed = [video.id for video in client.videos.list(limit=2, order="asc") if video.id not in known]
    assert listed == [ids[0], ids[2]], "pages follow each other"
    with pytest.raises(openai.NotFoundError, match="by the pod that drew them"):
        client.videos.retrieve(ids[1])


def test_seconds_are_text_as_openai_sends_them(client: openai.OpenAI, picture: tuple[str, bytes]) -> None:
    video = client.videos.create(prompt="short", seconds="0.5", input_reference=picture)  # type: ignore[arg-type]
    assert video.model_extra is not None
    assert (video.model_extra["num_frames"], video.seconds) == (9, "0.5625")
    assert finished(client, video.id).status == "completed"
    assert frames_of(client.videos.download_content(video.id).content) == (9, 48, 32, 16.0)


def test_what_is_wrong_is_told_at_once_or_with_the_clip(
    client: openai.OpenAI, picture: tuple[str, bytes]
) -> None:
    with pytest.raises(openai.BadRequestError, match="makes a clip from a picture: send one"):
        client.videos.create(prompt="it moves")
    broken = client.videos.create(prompt="it moves", input_reference=("a.png", b"no picture"))
    long = client.videos.create(prompt="red " * 600, input_reference=picture)
    for video, words in ((broken, "input_reference is no picture"), (long, "Wan reads at most 512")):
        done = finished(client, video.id)
        assert done.status == "failed"
        assert done.error is not None
        assert done.error.code == "invalid_value"
        assert words in done.error.message
    with pytest.raises(openai.BadRequestError, match="there is no file to fetch"):
        client.videos.download_content(long.id)
