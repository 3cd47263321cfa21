"""A lost rank ends its group, not the engine: the request gets a retryable error, the next one a picture."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from diffusion_runtime.planning.documents import Layout, VaeSettings
from diffusion_runtime.server import draw_once
from diffusion_runtime.server.image_request import rules_of
from diffusion_runtime.server.openai_errors import from_engine
from diffusion_runtime.server.rank_group import GroupFailed, UndrawableRequest
from diffusion_runtime.server.rank_process import RankHandle
from diffusion_runtime.server.start import PreparedEngine
from diffusion_runtime.server.termination import EngineEnded
from engine.fake_group import QUICK, REQUEST, fake_engine, until
from engine.plans import QWEN_IMAGE, cpu_execution, plan_for

TWO_RANKS = plan_for(cpu_execution(cfg=2))


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ("killed", "RankDied", "signal SIGKILL"),
        ("crash", "RankDied", "exit code 1"),
        ("oom", "CudaOutOfMemory", "CudaOutOfMemory"),
        ("silent", "RankHung", "no sign of life"),
        ("frozen", "RankHung", "stopped by a signal"),
        ("hang", "RankHung", "no progress"),
    ],
)
async def test_request_fails_retryably_and_the_next_is_drawn(
    tmp_path: Path, fault: str, reason: str, words: str
) -> None:
    # Long enough that the rank that is well is heard of on a busy machine too.
    changes = {"silent": {"heartbeat_s": 2.0}, "frozen": {"heartbeat_s": 2.0}, "hang": {"progress_s": 2.0}}
    limits = replace(QUICK, **changes.get(fault, {}))
    engine = fake_engine(tmp_path, TWO_RANKS, [{"draw": fault, "rank": 1}, {}], limits)
    running = asyncio.create_task(engine.run())
    first, second = engine.submit([REQUEST]), engine.submit([REQUEST])

    with pytest.raises(GroupFailed) as lost:
        await first.result
    assert lost.value.failure.reason == reason
    assert lost.value.failure.phase == "denoise"
    assert lost.value.failure.rank == 1
    assert words in lost.value.failure.message
    answer = from_engine(lost.value, 3)
    assert (answer.status, answer.retry_after_s) == (503, 3)
    assert answer.code == ("out_of_memory" if fault == "oom" else "rank_group_restarted")

    assert (await second.result)[0].body == b"picture 7"
    assert engine.report.state == "ready"
    assert engine.report.rank_group_restarts == 1
    assert engine.report.reason is None
    assert b"diffusion_engine_rank_group_restarts_total 1.0" in engine.metrics.text()
    engine.drain()
    await running


async def test_a_death_explains_more_than_the_other_ranks_lost_connection(tmp_path: Path) -> None:
    """The survivor's complaint may arrive first; the report must name the rank that died."""
    script = [{"draw": "lost", "rank": 0, "others": "killed"}, {}]
    engine = fake_engine(tmp_path, TWO_RANKS, script, replace(QUICK, settle_s=5.0))
    running = asyncio.create_task(engine.run())
    job = engine.submit([REQUEST])
    with pytest.raises(GroupFailed) as lost:
        await job.result
    assert (lost.value.failure.reason, lost.value.failure.rank) == ("RankDied", 1)
    engine.drain()
    await running


async def test_idle_rank_that_dies_is_replaced_before_the_next_request(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, TWO_RANKS, [{"draw": "ok"}])
    running = asyncio.create_task(engine.run())
    await engine.submit([REQUEST]).result
    os.kill(engine.process_ids[1], signal.SIGKILL)
    await until(lambda: engine.report.rank_group_restarts == 1)
    assert (await engine.submit([REQUEST]).result)[0].body == b"picture 7"
    engine.drain()
    await running


async def test_a_rank_frozen_while_it_loads_is_noticed_before_the_start_limit(tmp_path: Path) -> None:
    limits = replace(QUICK, heartbeat_s=1.0, start_s=600.0)
    engine = fake_engine(tmp_path, TWO_RANKS, [{"start": "frozen", "rank": 1}, {}], limits)
    running = asyncio.create_task(engine.run())
    assert (await engine.submit([REQUEST]).result)[0].body == b"picture 7"
    assert engine.report.rank_group_restarts == 1
    engine.drain()
    await running


async def test_three_lost_groups_end_the_container_with_the_last_reason(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, TWO_RANKS, [{"draw": "killed", "rank": 0}])
    running = asyncio.create_task(engine.run())
    jobs = [engine.submit([REQUEST]) for _ in range(4)]
    for job in jobs[:3]:
        with pytest.raises(GroupFailed):
            await job.result
    with pytest.raises(EngineEnded) as ended:
        await jobs[3].result
    assert ended.value.exit_code == 1
    assert ended.value.failure.reason == "CrashLoop"
    assert "3 rank groups were lost within 600 s" in ended.value.failure.message
    with pytest.raises(EngineEnded):
        await running
    assert engine.report.state == "failed"


async def test_failures_older_than_the_window_do_not_count(tmp_path: Path) -> None:
    limits = replace(QUICK, failure_window_s=0.0)
    engine = fake_engine(tmp_path, TWO_RANKS, [{"draw": "killed"}] * 4 + [{}], limits)
    running = asyncio.create_task(engine.run())
    jobs = [engine.submit([REQUEST]) for _ in range(5)]
    results = await asyncio.gather(*(job.result for job in jobs), return_exceptions=True)
    assert [isinstance(result, GroupFailed) for result in results] == [True] * 4 + [False]
    assert engine.report.rank_group_restarts == 4
    engine.drain()
    await running


async def test_out_of_memory_goes_on_with_the_next_fallback_that_can_be_executed(tmp_path: Path) -> None:
    unsupported = cpu_execution(cfg=2, layout=Layout(tensor=2, fsdp=True))
    plan = plan_for(cpu_execution(cfg=2), fallbacks=(unsupported, cpu_execution(cfg=2, mode="component")))
    engine = fake_engine(tmp_path, plan, [{"start": "oom"}, {}])
    running = asyncio.create_task(engine.run())
    await engine.submit([REQUEST]).result
    assert engine.report.executing_hash == plan.fallbacks[1].hash
    assert engine.report.plan_hash == plan.hash
    engine.drain()
    await running


async def test_every_fallback_is_tried_before_the_container_ends(tmp_path: Path) -> None:
    """A new container would begin with the plan again, so giving up early would never reach the last one."""
    others = tuple(cpu_execution(vae=VaeSettings(tiling=True, tile_size=size)) for size in (64, 48, 32, 16))
    plan = plan_for(cpu_execution(), fallbacks=others)
    engine = fake_engine(tmp_path, plan, [{"start": "oom"}] * 4 + [{}])
    running = asyncio.create_task(engine.run())
    await engine.submit([REQUEST]).result
    assert engine.report.executing_hash == plan.fallbacks[3].hash
    engine.drain()
    await running


async def test_last_fallback_that_is_too_large_too_ends_the_container(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = plan_for(cpu_execution(), fallbacks=(cpu_execution(mode="component"),))
    engine = fake_engine(tmp_path, plan, [{"start": "oom"}])
    with pytest.raises(EngineEnded) as ended:
        await engine.run()
    assert (ended.value.exit_code, ended.value.failure.reason) == (1, "CudaOutOfMemory")
    assert ended.value.failure.bytes_asked == 20
    assert engine.report.rank_group_restarts == 3
    gc.collect()
    assert not [record for record in caplog.records if record.name == "asyncio"], "nothing is left unread"


async def test_refusal_by_a_rank_ends_at_once_and_answers_who_waits(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, TWO_RANKS, [{"start": "refuse", "rank": 1}])
    job = engine.submit([REQUEST])
    with pytest.raises(EngineEnded) as ended:
        await engine.run()
    assert (ended.value.exit_code, ended.value.failure.reason) == (2, "NoUsableGpu")
    with pytest.raises(EngineEnded):
        await job.result


async def test_a_picture_that_all_ranks_refuse_costs_no_group(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, TWO_RANKS, [{"draw": "undrawable"}])
    running = asyncio.create_task(engine.run())
    with pytest.raises(UndrawableRequest) as refused:
        await engine.submit([REQUEST]).result
    answer = from_engine(refused.value, 1)
    assert (answer.status, answer.param) == (400, "prompt")
    assert engine.report.rank_group_restarts == 0
    engine.drain()
    await running


async def test_a_picture_that_one_rank_alone_refuses_means_ranks_out_of_step(tmp_path: Path) -> None:
    script = [{"draw": "undrawable", "rank": 1, "others": "hang"}, {}]
    engine = fake_engine(tmp_path, TWO_RANKS, script)
    running = asyncio.create_task(engine.run())
    with pytest.raises(GroupFailed) as lost:
        await engine.submit([REQUEST]).result
    assert lost.value.failure.reason == "RankHung"
    assert lost.value.failure.rank == 0
    engine.drain()
    await running


MUCH = """
import pathlib, struct, sys
out = sys.stdout.buffer
out.write(struct.pack(">II", 2, 2**30) + b"{}" + bytes(2**23))
pathlib.Path(sys.argv[1]).touch()
while True:
    out.write(bytes(2**16))
"""


async def test_rank_killed_within_a_large_picture_is_reaped(tmp_path: Path) -> None:
    """Its pipe is full and nobody reads: the end must be seen nevertheless, else `close` hangs."""
    files = len(os.listdir("/proc/self/fd"))
    sent = tmp_path / "sent"
    rank = await RankHandle.spawn(0, (sys.executable, "-c", MUCH, str(sent)), {}, time.monotonic)
    listening = asyncio.create_task(rank.listen(lambda failure: None))
    await until(sent.exists)
    rank.kill()
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    async with asyncio.timeout(20):
        await rank.reaped()
    rank.forget()
    await until(lambda: len(os.listdir("/proc/self/fd")) == files)


def test_generate_on_two_ranks_reports_memory_although_the_plan_has_a_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_for(cpu_execution(cfg=2), fallbacks=(cpu_execution(cfg=2, mode="component"),))

    def prepared(*_: object) -> PreparedEngine:
        engine = fake_engine(tmp_path, plan, [{"draw": "oom"}, {}])
        return PreparedEngine(engine, rules_of(plan, 16, QWEN_IMAGE), None, cast(Any, None))

    monkeypatch.setattr(draw_once, "prepare", prepared)
    with pytest.raises(EngineEnded) as ended:
        draw_once.draw_once(plan, {"prompt": "a"})
    assert (ended.value.exit_code, ended.value.failure.reason) == (1, "CudaOutOfMemory")


async def test_report_takes_the_worst_rank(tmp_path: Path) -> None:
    engine = fake_engine(tmp_path, TWO_RANKS, [{}])
    running = asyncio.create_task(engine.run())
    await engine.submit([REQUEST]).result
    assert engine.report.phases["load"].allocated_bytes == 101
    assert engine.report.phases["denoise"].allocated_bytes == 201
    assert engine.report.seconds_per_step == 0.5
    engine.drain()
    await running
