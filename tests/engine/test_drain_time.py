"""A pod that ends has a known time: what is drawn by then is answered with a picture, the rest with 503."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from diffusion_runtime.cli import main
from diffusion_runtime.server.engine import NotServing, OutOfTime
from diffusion_runtime.server.limits import Limits
from diffusion_runtime.server.openai_errors import from_engine
from engine.fake_group import QUICK, REQUEST, fake_engine, until
from engine.plans import cpu_execution, plan_for

SHORT = replace(QUICK, drain_s=0.6)
QUICK_REQUEST = REQUEST.model_copy(update={"guidance_scale": 1.0})


async def test_what_is_not_drawn_in_time_gets_a_retryable_error(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, plan_for(cpu_execution()), [{"draw": "hang"}], SHORT)
    running = asyncio.create_task(engine.run())
    drawn = engine.submit([QUICK_REQUEST])
    await drawn.result
    stuck, waiting = engine.submit([REQUEST]), engine.submit([QUICK_REQUEST])
    await until(lambda: engine.queue.ahead == 2)
    engine.drain()
    async with asyncio.timeout(10):
        await running  # no error: the engine drained
    for job in (stuck, waiting):
        error = job.result.exception()
        assert isinstance(error, OutOfTime)
        answer = from_engine(error, 9)
        assert (answer.status, answer.code, answer.retry_after_s) == (503, "engine_draining", 1)
        assert "no time left for this request" in answer.message
    with pytest.raises(NotServing):
        engine.submit([REQUEST])


async def test_a_group_that_is_still_starting_does_not_outlive_the_time(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, plan_for(cpu_execution()), [{"start": "silent"}], SHORT)
    running = asyncio.create_task(engine.run())
    job = engine.submit([REQUEST])
    engine.drain()
    async with asyncio.timeout(10):
        await running
    assert isinstance(job.result.exception(), OutOfTime)


async def test_an_engine_without_work_ends_long_before_its_time(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, plan_for(cpu_execution()), [{}], replace(QUICK, drain_s=3600.0))
    running = asyncio.create_task(engine.run())
    await engine.submit([REQUEST]).result
    engine.drain()
    async with asyncio.timeout(10):
        await running


@pytest.mark.parametrize(("drain_s", "kept"), [(120.0, 5.0), (4.0, 2.0), (None, 30.0)])
def test_time_is_kept_back_for_the_last_answers(drain_s: float | None, kept: float) -> None:
    assert Limits(drain_s=drain_s).last_answers_s == kept


@pytest.mark.parametrize("given", ["soon", "0", "-3", "nan", "inf"])
def test_a_drain_time_that_is_none_is_named(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--plan", "/nowhere", f"--drain-seconds={given}"]) == 2
    assert repr(given) in capsys.readouterr().err


def test_the_environment_says_the_time_too() -> None:
    """As the operator sets it; the name is part of the contract."""
    environment = os.environ | {"DIFFUSION_DRAIN_S": "tomorrow"}
    command = [sys.executable, "-m", "diffusion_runtime.cli", "serve", "--plan", "/nowhere"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2
    assert "DIFFUSION_DRAIN_S) 'tomorrow' is no number of seconds" in ended.stderr
