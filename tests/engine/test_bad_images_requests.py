"""Every wrong field of the images call ends in a 400 with the OpenAI error object, naming field and value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from diffusion_runtime.planning.documents import Shape
from diffusion_runtime.server.api import build_api
from diffusion_runtime.server.image_request import parse_images_request, rules_of
from engine.fake_group import fake_engine
from engine.plans import QWEN_IMAGE, cpu_execution, plan_for

SURROGATE = "\ud800"
BAD_FIELDS: list[tuple[dict[str, Any], str, str]] = [
    ({"prompt": 7}, "prompt", "prompt must be a string, not a number."),
    ({"prompt": ["a"]}, "prompt", "prompt must be a string, not an array."),
    ({"prompt": None}, "prompt", "prompt is missing"),
    ({"prompt": "  "}, "prompt", "prompt is empty"),
    ({"prompt": "x" * 32_001}, "prompt", "32001 characters"),
    ({"prompt": SURROGATE}, "prompt", "not valid Unicode"),
    ({"size": "100x64"}, "size", "size 100x64 cannot be drawn: both sides must be multiples of 16."),
    ({"size": "0x64"}, "size", "'0x64' must be 'auto' or WIDTHxHEIGHT"),
    ({"size": "big"}, "size", "'big'"),
    ({"size": 64}, "size", "64"),
    ({"size": "4096x64"}, "size", "2048 pixels at most"),
    ({"size": "64x64", "width": 64}, "size", "both set"),
    ({"width": 65}, "width", "65x64"),
    ({"height": -16}, "height", "-16 is out of range"),
    ({"n": 0}, "n", "n 0 is out of range; it must be 1 to 10."),
    ({"n": 11}, "n", "11"),
    ({"n": True}, "n", "a boolean"),
    ({"n": 1.5}, "n", "must be an integer"),
    ({"seed": -1}, "seed", "-1"),
    ({"seed": 2**63}, "seed", str(2**63)),
    ({"num_inference_steps": 0}, "num_inference_steps", "0 is out of range"),
    ({"num_inference_steps": "4"}, "num_inference_steps", "must be an integer, not a string"),
    ({"guidance_scale": "4"}, "guidance_scale", "must be a number, not a string"),
    ({"guidance_scale": float("nan")}, "guidance_scale", "nan"),
    ({"true_cfg_scale": 101}, "true_cfg_scale", "101"),
    ({"true_cfg_scale": 3, "guidance_scale": 4}, "guidance_scale", "differ"),
    ({"true_cfg_scale": 1, "negative_prompt": "blur"}, "negative_prompt", "no effect at guidance scale 1"),
    ({"negative_prompt": 3}, "negative_prompt", "must be a string"),
    ({"response_format": "url"}, "response_format", "response_format 'url' is not supported"),
    ({"output_format": "gif"}, "output_format", "'gif'"),
    ({"output_format": ["png"]}, "output_format", "['png']"),
    ({"output_compression": 50}, "output_compression", "no effect on png"),
    ({"output_compression": 101, "output_format": "webp"}, "output_compression", "101"),
    ({"quality": "hd"}, "quality", "quality 'hd' is not supported; this engine takes 'auto'."),
    ({"background": "transparent"}, "background", "'transparent'"),
    ({"stream": True}, "stream", "True"),
    ({"partial_images": 2}, "partial_images", "2"),
    ({"style": "vivid"}, "style", "Unknown field 'style'"),
    ({"user": 5}, "user", "must be a string"),
    ({SURROGATE: 1}, "?", "Unknown field '\\ud800'"),
]


@pytest.fixture
async def client(tmp_path: Path) -> Any:
    """The API of an engine that was never started: bad input must not need one."""
    plan = plan_for(cpu_execution())
    app = build_api(fake_engine(tmp_path, plan, [{}]), rules_of(plan, 16, QWEN_IMAGE))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        yield client


async def post(client: httpx.AsyncClient, body: Any) -> httpx.Response:
    """POST as any JSON writer might: NaN and lone surrogates included."""
    return await client.post("/v1/images/generations", content=json.dumps(body).encode())


def assert_error(answer: httpx.Response, status: int, param: str | None, words: str) -> None:
    error = answer.json()["error"]
    assert answer.status_code == status
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert words in error["message"]
    assert "\n" not in error["message"]


@pytest.mark.parametrize(("fields", "param", "words"), BAD_FIELDS)
async def test_wrong_field_is_named_with_its_value(
    client: httpx.AsyncClient, fields: dict[str, Any], param: str, words: str
) -> None:
    assert_error(await post(client, {"prompt": "a cat"} | fields), 400, param, words)


@pytest.mark.parametrize(
    ("body", "words"), [([], "an array"), ("x", "a string"), (None, "null"), (3, "a number")]
)
async def test_body_that_is_no_object(client: httpx.AsyncClient, body: Any, words: str) -> None:
    assert_error(await post(client, body), 400, None, words)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
async def test_body_that_is_no_json(client: httpx.AsyncClient, content: bytes) -> None:
    answer = await client.post("/v1/images/generations", content=content)
    assert_error(answer, 400, None, "not valid JSON")


async def test_body_that_is_too_large(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/images/generations", content=b" " * (1024 * 1024 + 1))
    assert_error(answer, 413, None, "larger than")


async def test_client_that_hangs_up_in_its_body_is_no_bug_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_for(cpu_execution())
    app = build_api(fake_engine(tmp_path, plan, [{}]), rules_of(plan, 16, QWEN_IMAGE))
    scope = {"type": "http", "method": "POST", "path": "/v1/images/generations", "headers": []}
    sent: list[Any] = []
    events = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return events.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert not caplog.records


async def test_other_model_is_not_found(client: httpx.AsyncClient) -> None:
    answer = await post(client, {"prompt": "a", "model": "dall-e-3"})
    assert_error(answer, 404, "model", "model 'dall-e-3' is not served here; this engine serves 'demo'.")
    assert_error(await client.get("/v1/models/dall-e-3"), 404, "model", "dall-e-3")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v1/images/generations", 405), ("POST", "/v1/nothing", 404)]
)
async def test_other_routes_answer_with_error_objects(
    client: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await client.request(method, path)
    assert_error(answer, status, None, path)
    assert answer.json()["error"]["code"] == ("method_not_allowed" if status == 405 else "not_found")


async def test_every_answer_names_request_and_plan(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.get("/v1/models", headers={"x-request-id": "mine-1"}),
        await client.get("/nothing", headers={"x-request-id": "mine-1"}),
    ):
        assert answer.headers["x-request-id"] == "mine-1"
        assert len(answer.headers["x-diffusion-plan"]) == 12
    strange = await client.get("/v1/models", headers={"x-request-id": "a b\t"})
    assert len(strange.headers["x-request-id"]) == 32


def test_undeclared_size_is_refused_when_the_plan_says_so() -> None:
    plan = plan_for(cpu_execution(), other_shapes="refuse", shapes=(Shape(width=64, height=96, steps=4),))
    rules = rules_of(plan, 16, QWEN_IMAGE)
    assert parse_images_request({"prompt": "a"}, rules).pictures[0].height == 96
    with pytest.raises(Exception, match="size 64x64 is not among the sizes planned for this engine: 64x96"):
        parse_images_request({"prompt": "a", "size": "64x64"}, rules)


def test_defaults_come_from_plan_and_family() -> None:
    rules = rules_of(plan_for(cpu_execution()), 16, QWEN_IMAGE)
    pictures = parse_images_request({"prompt": "a", "n": 3, "seed": 5}, rules).pictures
    assert [picture.seed for picture in pictures] == [5, 6, 7]
    first = pictures[0]
    assert (first.width, first.height, first.steps, first.guidance_scale) == (64, 64, 4, 4.0)
    assert first.guided
    unguided = rules_of(plan_for(cpu_execution(), guidance=False), 16, QWEN_IMAGE)
    assert not parse_images_request({"prompt": "a"}, unguided).pictures[0].guided
