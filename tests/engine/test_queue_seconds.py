"""An engine accepts no more work than it can finish: by the forecast first, then by what it measured."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from diffusion_runtime.cli import main
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.planning.documents import Plan, Shape, TimeForecast
from diffusion_runtime.server.engine import Engine
from diffusion_runtime.server.jobs import Job, JobQueue, QueueFull
from diffusion_runtime.server.openai_errors import from_engine
from diffusion_runtime.server.pace import MOST_SIZES, Pace
from engine.fake_group import QUICK, REQUEST, fake_engine
from engine.plans import cpu_execution, plan_for

SMALL, LARGE = Shape(width=64, height=64, steps=4), Shape(width=128, height=128, steps=4)
TIME = TimeForecast(per_forward_seconds=0.5, per_step_seconds=1.0, per_request_seconds=6.0)  # 4 steps + 2 s
LARGE_REQUEST = REQUEST.model_copy(update={"width": 128, "height": 128})


def two_shapes(time: TimeForecast = TIME) -> Plan:
    return plan_for(cpu_execution(), shapes=(SMALL, LARGE), time=time)


def engine_of(folder: Path, queue_s: float | None) -> Engine:
    """It does not run: what it accepts waits."""
    return fake_engine(folder, two_shapes(), [{}], replace(QUICK, queue_s=queue_s))


def asking(request: PictureRequest, count: int) -> list[PictureRequest]:
    return [request] * count


async def test_pictures_steps_and_shapes_count_and_not_requests_alone(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, 100.0)
    engine.submit(asking(REQUEST, 10))  # 60 s
    with pytest.raises(QueueFull):
        engine.submit(asking(REQUEST, 7))
    with pytest.raises(QueueFull):
        engine.submit([LARGE_REQUEST])  # 4 x 16 s and 4 x 2 s
    with pytest.raises(QueueFull):
        engine.submit([REQUEST.model_copy(update={"steps": 1000})])
    engine.submit(asking(REQUEST, 6))
    assert engine.queue_seconds() == pytest.approx(96.0)
    with pytest.raises(QueueFull) as refused:
        engine.submit([REQUEST])
    answer = from_engine(refused.value, 9)
    assert (answer.status, answer.code, answer.retry_after_s) == (429, "queue_full", 9)


async def test_alone_any_request_is_accepted(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, 10.0)
    engine.submit(asking(LARGE_REQUEST, 10))
    with pytest.raises(QueueFull):
        engine.submit([REQUEST])


async def test_without_a_bound_only_requests_are_counted(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, None)
    for _ in range(QUICK.queue_capacity):
        engine.submit(asking(LARGE_REQUEST, 10))
    with pytest.raises(QueueFull):
        engine.submit([REQUEST])


async def test_what_a_client_gave_up_makes_room(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, 20.0)
    gone = engine.submit(asking(REQUEST, 3))
    with pytest.raises(QueueFull):
        engine.submit([REQUEST])
    gone.abandoned = True
    assert engine.queue_seconds() == 0.0
    engine.submit([REQUEST])


async def test_what_was_measured_replaces_the_forecast(tmp_path: Path) -> None:
    engine = engine_of(tmp_path, 100.0)
    running = asyncio.create_task(engine.run())
    await engine.submit([REQUEST]).result
    measured = engine.report.seconds_per_request
    assert measured is not None
    assert measured < 6.0
    engine.drain()
    await running
    assert engine.queue_seconds() == 0.0
    assert Pace(two_shapes()).seconds(REQUEST) == pytest.approx(6.0)


def test_a_size_is_known_by_its_last_picture_scaled_to_the_steps() -> None:
    pace = Pace(two_shapes())
    pace.learn(REQUEST, 12.0)  # twice the forecast
    assert pace.seconds(REQUEST) == pytest.approx(12.0)
    assert pace.seconds(REQUEST.model_copy(update={"steps": 10})) == pytest.approx(24.0)
    assert pace.seconds(LARGE_REQUEST) == pytest.approx(4 * 16.0 + 4 * 2.0)
    unguided = REQUEST.model_copy(update={"guidance_scale": 1.0})
    assert pace.seconds(unguided) == pytest.approx(6.0)


def test_without_a_forecast_steps_alone_scale() -> None:
    nothing = TimeForecast(per_forward_seconds=0, per_step_seconds=0, per_request_seconds=0)
    pace = Pace(two_shapes(nothing))
    assert pace.seconds(REQUEST) == 0.0
    pace.learn(REQUEST, 3.0)
    assert pace.seconds(REQUEST.model_copy(update={"steps": 8})) == pytest.approx(6.0)


def test_few_sizes_are_remembered() -> None:
    pace = Pace(two_shapes())
    pace.learn(REQUEST, 1.0)
    for index in range(MOST_SIZES):
        pace.learn(REQUEST.model_copy(update={"width": 80 + 16 * index}), 1.0)
    assert pace.seconds(REQUEST) == pytest.approx(6.0)


async def test_the_running_job_counts_by_what_is_left_of_it() -> None:
    queue = JobQueue(capacity=2)
    job = Job(asking(REQUEST, 3), asyncio.get_running_loop().create_future())
    queue.put(job)
    assert queue.take() is job
    assert len(list(queue.requests_ahead)) == 3
    job.pictures.append(None)  # type: ignore[arg-type]  # only counted
    assert len(list(queue.requests_ahead)) == 2
    queue.put_back(job)
    queue.finished()
    assert len(list(queue.requests_ahead)) == 2


@pytest.mark.parametrize("given", ["soon", "0", "inf"])
def test_a_bound_that_is_none_is_named(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--plan", "/nowhere", f"--queue-seconds={given}"]) == 2
    assert f"--queue-seconds (or DIFFUSION_QUEUE_S) {given!r}" in capsys.readouterr().err
