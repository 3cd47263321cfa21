"""While a group loads, the report says how long ago it got on; a rank that stands still is given up."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from diffusion_runtime.server.termination import EngineEnded

from .fake_group import QUICK, fake_engine, until
from .plans import cpu_execution, plan_for

PLAN = plan_for(cpu_execution())


async def test_the_report_tells_how_long_loading_stands_still(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, PLAN, [{"start": "silent"}])
    assert engine.report_now().load_idle_seconds is None
    serving = asyncio.create_task(engine.run())
    await until(lambda: engine.report_now().load_idle_seconds is not None)
    assert engine.report_now().state == "loading"
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving


async def test_once_loaded_nothing_is_told(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, PLAN, [{}])
    serving = asyncio.create_task(engine.run())
    await until(lambda: engine.ready)
    assert engine.report_now().load_idle_seconds is None
    engine.drain()
    await serving


async def test_a_rank_that_stands_still_is_given_up_and_the_last_words_name_the_plan(tmp_path: Path) -> None:
    limits = replace(QUICK, heartbeat_s=0.4, start_s=0.2, max_group_failures=1)
    engine = fake_engine(tmp_path, PLAN, [{"start": "silent"}], limits)
    with pytest.raises(EngineEnded) as ended:
        await engine.run()
    assert "made no progress with loading for 0 s" in ended.value.failure.message
    assert ended.value.failure.executing_hash == engine.plan.hash
