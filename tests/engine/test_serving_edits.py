"""The edits call of a real server with a real rank, asked with the openai package: small Qwen-Image-Edit."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from builders.small_pipelines import SMALL
from diffusion_runtime.planning.documents import ModelRef, Shape
from engine.plans import cpu_execution, plan_for
from engine.real_server import RealServer, decode, serving

SHAPE = Shape(width=128, height=64, steps=2)
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    folder = tmp_path_factory.mktemp("edits")
    SMALL["qwen-image edit"](folder / "model")
    model = ModelRef(name="edit", family="qwen-image", source="path", path=str(folder / "model"))
    with serving(plan_for(cpu_execution(), model=model, shapes=(SHAPE,)), folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: RealServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.api}/v1", api_key="unused", max_retries=0) as client:
        yield client


def picture(colour: str, size: tuple[int, int] = (64, 48)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def edited(client: openai.OpenAI, image: Any, **fields: Any) -> np.ndarray[Any, Any]:
    """Guided as strongly as can be: what random weights make of a picture hardly shows otherwise."""
    answer = client.images.edit(
        image=image, prompt="make it night", extra_body={"seed": 3, "true_cfg_scale": 100}, **fields
    )
    assert answer.data is not None
    assert answer.size == "128x64"
    return decode(base64.b64decode(answer.data[0].b64_json or ""))


def test_the_picture_that_comes_along_is_edited(client: openai.OpenAI) -> None:
    red, again, blue = (
        edited(client, ("a.png", picture(colour)), model="edit", size="128x64")
        for colour in ("red", "red", "blue")
    )
    assert red.shape == (64, 128, 3)
    assert np.array_equal(red, again)
    assert not np.array_equal(red, blue)


@pytest.mark.parametrize(
    ("image", "fields", "param", "words"),
    [
        (b"no picture", {}, "image", "no picture that can be read"),
        (picture("red", (9000, 6000)), {}, "image", "at most 50,000,000 pixels"),
        ([picture("red"), picture("blue")], {}, "image", "2 pictures were sent; 'edit' edits 1"),
        (picture("red"), {"mask": picture("red")}, "mask", "not supported"),
        (picture("red"), {"input_fidelity": "high"}, "input_fidelity", "'low'"),
        (picture("red"), {"size": "100x64"}, "size", "multiples of 64"),
        (picture("red"), {"extra_body": {"seed": "soon"}}, "seed", "must be an integer"),
    ],
)
def test_what_is_wrong_is_named(
    client: openai.OpenAI, image: Any, fields: dict[str, Any], param: str, words: str
) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        client.images.edit(image=image, prompt="a", **fields)
    assert wrong.value.param == param
    assert words in str(wrong.value)


def test_a_model_that_edits_does_not_draw_from_words(client: openai.OpenAI, server: RealServer) -> None:
    with pytest.raises(openai.BadRequestError, match="POST /v1/images/edits"):
        client.images.generate(prompt="a")
    assert server.report()["rankGroupRestarts"] == 0
