"""Two real gloo ranks; one runs out of memory, or hangs, while the other waits for it in a collective."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.server.engine import Engine
from diffusion_runtime.server.limits import Limits
from diffusion_runtime.server.openai_errors import from_engine
from diffusion_runtime.server.rank_group import GroupFailed
from diffusion_runtime.server.start import prepare
from engine.plans import cpu_execution, plan_for

FAULTY_RANK = Path(__file__).with_name("faulty_rank.py")
REQUEST = PictureRequest(
    prompt="a red circle", width=64, height=64, steps=2, guidance_scale=4.0, seed=7, output_format="png"
)
LIMITS = Limits(collective_s=10.0, settle_s=0.5, drain_grace_s=0.0)
PLAN = plan_for(cpu_execution(cfg=2), fallbacks=(cpu_execution(cfg=2, mode="component"),))


async def lost(engine: Engine) -> GroupFailed:
    with pytest.raises(GroupFailed) as failed:
        await engine.submit([REQUEST]).result
    return failed.value


@pytest.mark.timeout(900)  # six starts of real ranks
async def test_faults_inside_a_collective_leave_the_server_up(tmp_path: Path) -> None:
    """Three groups, as starting real ranks is slow: out of memory, then stuck, then a picture."""
    command = (sys.executable, "-P", str(FAULTY_RANK), str(tmp_path), "oom", "stuck")
    engine = prepare(PLAN, LIMITS, command).engine
    running = asyncio.create_task(engine.run())

    out_of_memory = await lost(engine)
    failure = out_of_memory.failure
    assert (failure.reason, failure.rank, failure.phase) == ("CudaOutOfMemory", 1, "denoise")
    assert (failure.bytes_asked, failure.bytes_free) == (2 * 2**30, int(1.5 * 2**30))
    answer = from_engine(out_of_memory, 3)
    assert (answer.status, answer.code, answer.retry_after_s) == (503, "out_of_memory", 3)

    # The stuck rank is alive and answers pings: only the collective's own timeout can tell.
    stuck = (await lost(engine)).failure
    assert (stuck.reason, stuck.rank, stuck.phase) == ("RankHung", 0, "denoise")
    assert "waited for the other ranks longer than a collective may take" in stuck.message

    drawn = await engine.submit([REQUEST]).result
    assert drawn[0].body.startswith(b"\x89PNG")
    assert engine.report.executing_hash == PLAN.fallbacks[0].hash
    assert (engine.report.state, engine.report.rank_group_restarts) == ("ready", 2)
    assert len(engine.report.rank_measurements) == 2
    engine.drain()
    await running
