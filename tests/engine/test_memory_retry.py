"""Out of memory: one rank draws the same request with a fallback; several ranks answer and start one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from diffusion_runtime.loading.allowed import FAMILIES
from diffusion_runtime.planning.documents import Execution, Plan, VaeSettings
from diffusion_runtime.server import draw_once
from diffusion_runtime.server.api import build_api
from diffusion_runtime.server.image_request import rules_of
from diffusion_runtime.server.rank_group import GroupFailed
from diffusion_runtime.server.start import PreparedEngine
from engine.fake_group import REQUEST, fake_engine
from engine.plans import cpu_execution, plan_for

MOVED = cpu_execution(mode="component")
TILED = cpu_execution(vae=VaeSettings(tiling=True, tile_size=32))


def with_hosts(plan: Plan, host_bytes: int, *fallback_host_bytes: int) -> Plan:
    """The plan with host memory said for it and its fallbacks."""
    fallbacks = tuple(
        fallback.model_copy(update={"host_bytes": need})
        for fallback, need in zip(plan.fallbacks, fallback_host_bytes, strict=True)
    )
    memory = plan.memory.model_copy(update={"host_bytes": host_bytes})
    return plan.model_copy(update={"memory": memory, "fallbacks": fallbacks})


async def test_one_rank_draws_the_same_request_with_the_next_fallback(tmp_path: Path) -> None:
    plan = plan_for(cpu_execution(), fallbacks=(MOVED,))
    engine = fake_engine(tmp_path, plan, [{"draw": "oom"}, {}])
    running = asyncio.create_task(engine.run())
    app = build_api(engine, rules_of(plan, 16, FAMILIES["qwen-image"]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://engine") as client:
        answer = await client.post("/v1/images/generations", json={"prompt": "a"})
        again = await client.post("/v1/images/generations", json={"prompt": "a"})
    for drawn in (answer, again):
        assert drawn.status_code == 200
        assert drawn.headers["x-diffusion-fallback"] == "true"
        assert drawn.headers["x-diffusion-plan"] == plan.fallbacks[0].hash
    assert engine.report.rank_group_restarts == 1
    assert engine.report.executing_reason == "CudaOutOfMemory in phase denoise: CudaOutOfMemory here"
    engine.drain()
    await running


async def test_pictures_that_were_drawn_are_not_drawn_again(tmp_path: Path) -> None:
    """The first one is plain, which the fake rank draws; the second runs out of memory once."""
    plan = plan_for(cpu_execution(), fallbacks=(MOVED,))
    engine = fake_engine(tmp_path, plan, [{"draw": "oom"}, {}])
    running = asyncio.create_task(engine.run())
    plain = REQUEST.model_copy(update={"guidance_scale": 1.0, "seed": 1})
    job = engine.submit([plain, REQUEST])
    assert [picture.body for picture in await job.result] == [b"picture 1", b"picture 7"]
    assert b"diffusion_engine_pictures_total 2.0" in engine.metrics.text()
    engine.drain()
    await running


async def test_a_request_is_tried_twice_and_not_more(tmp_path: Path) -> None:
    plan = plan_for(cpu_execution(), fallbacks=(MOVED, TILED))
    engine = fake_engine(tmp_path, plan, [{"draw": "oom"}])
    running = asyncio.create_task(engine.run())
    with pytest.raises(GroupFailed) as lost:
        await engine.submit([REQUEST]).result
    assert lost.value.failure.reason == "CudaOutOfMemory"
    assert engine.report.rank_group_restarts == 1
    engine.drain()
    await running


async def test_without_a_fallback_the_request_fails_at_once(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, plan_for(cpu_execution()), [{"draw": "oom"}, {}])
    running = asyncio.create_task(engine.run())
    with pytest.raises(GroupFailed):
        await engine.submit([REQUEST]).result
    engine.drain()
    await running


async def test_a_rank_killed_by_the_kernel_alone_is_host_oom_killed(tmp_path: Path) -> None:
    kills = iter([0, 1, 1, 1])
    script = [{"draw": "killed", "rank": 1}, {}]
    engine = fake_engine(tmp_path, plan_for(cpu_execution(cfg=2)), script, oom_kills=lambda: next(kills))
    running = asyncio.create_task(engine.run())
    with pytest.raises(GroupFailed) as lost:
        await engine.submit([REQUEST]).result
    assert (lost.value.failure.reason, lost.value.failure.rank) == ("HostOOMKilled", 1)
    assert "The kernel killed it: the container's memory limit is reached." in lost.value.failure.message
    engine.drain()
    await running


@pytest.mark.parametrize(("hosts", "chosen"), [((10, 40, 5), 1), ((10, 40, 20), None)])
async def test_what_the_host_lacks_is_not_asked_of_it_again(
    tmp_path: Path, hosts: tuple[int, int, int], chosen: int | None
) -> None:
    """Less on the GPU usually means more on the host: the first fallback would be killed too."""
    plan = with_hosts(plan_for(cpu_execution(), fallbacks=(MOVED, TILED)), *hosts)
    engine = fake_engine(tmp_path, plan, [{"start": "host oom"}, {}])
    running = asyncio.create_task(engine.run())
    await engine.submit([REQUEST]).result
    executing: Execution = plan if chosen is None else plan.fallbacks[chosen]
    assert engine.report.executing_hash == getattr(executing, "hash", "")
    engine.drain()
    await running


def test_generate_draws_with_the_fallback_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(cpu_execution(), fallbacks=(MOVED,))

    def prepared(*_: object) -> PreparedEngine:
        engine = fake_engine(tmp_path, plan, [{"draw": "oom"}, {}])
        return PreparedEngine(engine, rules_of(plan, 16, FAMILIES["qwen-image"]), None, cast(Any, None))

    monkeypatch.setattr(draw_once, "prepare", prepared)
    _, pictures, report = draw_once.draw_once(plan, {"prompt": "a", "seed": 3})
    assert [picture.body for picture in pictures] == [b"picture 3"]
    assert report.executing_hash == plan.fallbacks[0].hash
    assert report.executing_reason is not None
