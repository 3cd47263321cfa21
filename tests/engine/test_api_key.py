"""With a key, every path of the API port asks for it, as the `openai` client understands; port 9000 never."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import openai
import pytest
from starlette.applications import Starlette

from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.server.api import build_api
from diffusion_runtime.server.api_key import KEY_VARIABLE, ApiKey, take_api_key
from diffusion_runtime.server.image_request import rules_of
from diffusion_runtime.server.management import build_management
from engine.fake_group import fake_engine
from engine.plans import cpu_execution, plan_for

KEY = "sk-ümlaut-and-all"
PLAN = plan_for(cpu_execution())


def app(folder: Path, key: ApiKey | None) -> Starlette:
    return build_api(fake_engine(folder, PLAN, [{}]), rules_of(PLAN, 16, 4.0), key)


def http_client(application: Starlette) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://engine")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", "/v1/images/generations"),
        ("GET", "/"),
        ("GET", "/v1/report"),
        ("OPTIONS", "/v1/models"),
        ("GET", "//v1/models"),
    ],
)
async def test_every_path_asks(tmp_path: Path, method: str, path: str) -> None:
    async with http_client(app(tmp_path, ApiKey("right"))) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic right"}):
            answer = await client.request(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["x-diffusion-plan"] == PLAN.hash
            error = answer.json()["error"]
            assert (error["type"], error["param"], error["code"]) == (
                "invalid_request_error",
                None,
                "invalid_api_key",
            )
        assert (
            await client.request(method, path, headers={"authorization": "Bearer right"})
        ).status_code != 401


async def test_the_openai_client_is_let_in_and_kept_out(tmp_path: Path) -> None:
    async with http_client(app(tmp_path, ApiKey("sk-right"))) as transport:

        def client(key: str) -> openai.AsyncOpenAI:
            base = "http://engine/v1"
            return openai.AsyncOpenAI(base_url=base, api_key=key, max_retries=0, http_client=transport)

        assert [model.id async for model in client("sk-right").models.list()] == [PLAN.model.name]
        with pytest.raises(openai.AuthenticationError, match="Incorrect API key provided"):
            await client("sk-wrong").models.list()


async def test_without_a_key_nobody_is_asked_and_management_never_asks(tmp_path: Path) -> None:
    async with http_client(app(tmp_path, None)) as client:
        assert (await client.get("/v1/models")).status_code == 200
    async with http_client(build_management(fake_engine(tmp_path, PLAN, [{}]))) as client:
        assert (await client.get("/livez")).status_code == 200


def test_the_key_leaves_the_environment_before_a_rank_starts() -> None:
    environment = {KEY_VARIABLE: "right\n", "HOME": "/tmp"}
    key = take_api_key(environment)
    assert key is not None
    assert key.opens("Bearer right")
    assert key.opens("bearer  right")
    assert not key.opens("right")
    assert not key.opens("")
    assert environment == {"HOME": "/tmp"}
    assert take_api_key({}) is None
    assert KEY_VARIABLE not in os.environ


def test_a_key_beyond_ascii_is_sent_as_utf_8() -> None:
    assert ApiKey(KEY).opens("Bearer " + KEY.encode().decode("latin-1"))


@pytest.mark.parametrize(
    ("key", "words"), [("", "is empty"), (" \n", "is empty"), ("a\nb", "no HTTP header")]
)
def test_a_key_that_cannot_work_is_refused(key: str, words: str) -> None:
    with pytest.raises(EngineRefusal, match=words) as refused:
        take_api_key({KEY_VARIABLE: key})
    assert refused.value.reason == "InvalidSpec"
