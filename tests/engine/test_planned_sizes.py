"""Sizes beside the planned ones: smaller ones run uncompiled and say so, larger ones are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from diffusion_runtime.loading.allowed import FAMILIES
from diffusion_runtime.planning.documents import Plan, Shape
from diffusion_runtime.server.api import build_api
from diffusion_runtime.server.image_request import parse_images_request, rules_of
from engine.fake_group import fake_engine
from engine.plans import cpu_execution, plan_for

SHAPES = (Shape(width=64, height=64, steps=4), Shape(width=128, height=64, steps=9))
PLAN = plan_for(cpu_execution(), shapes=SHAPES)


@asynccontextmanager
async def api(folder: Path, plan: Plan) -> AsyncIterator[httpx.AsyncClient]:
    engine = fake_engine(folder, plan, [{}])
    running = asyncio.create_task(engine.run())
    app = build_api(engine, rules_of(plan, 16, FAMILIES["qwen-image"]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        yield client
    engine.drain()
    await running


async def post(client: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    return await client.post("/v1/images/generations", json={"prompt": "a", **fields})


async def test_the_answer_says_whether_compiled_blocks_drew_it(tmp_path: Path) -> None:
    async with api(tmp_path, PLAN) as client:
        planned, other = await post(client, size="64x64"), await post(client, size="48x64")
    assert (planned.status_code, planned.headers["x-diffusion-compiled"]) == (200, "true")
    assert (other.status_code, other.headers["x-diffusion-compiled"]) == (200, "false")
    assert planned.headers["x-diffusion-fallback"] == "false"


async def test_more_pixels_than_memory_was_planned_for_are_refused(tmp_path: Path) -> None:
    async with api(tmp_path, PLAN) as client:
        refused = await post(client, size="96x96")
        as_large = await post(client, size="64x128")
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert error["param"] == "size"
    assert error["message"] == (
        "size 96x96 is too large: memory was planned for 8192 pixels (128x64), it has 9216."
    )
    assert as_large.status_code == 200


async def test_other_sizes_are_refused_when_the_plan_says_so(tmp_path: Path) -> None:
    plan = plan_for(cpu_execution(), shapes=SHAPES, other_shapes="refuse")
    async with api(tmp_path, plan) as client:
        refused, planned = await post(client, size="48x64"), await post(client, size="128x64")
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == (
        "size 48x64 is not among the sizes planned for this engine: 64x64, 128x64."
    )
    assert planned.status_code == 200


@pytest.mark.parametrize(("size", "steps"), [("64x64", 4), ("128x64", 9), ("48x64", 4), ("auto", 4)])
def test_steps_are_those_planned_for_the_size(size: str, steps: int) -> None:
    wanted = parse_images_request({"prompt": "a", "size": size}, rules_of(PLAN, 16, FAMILIES["qwen-image"]))
    assert wanted.pictures[0].steps == steps
