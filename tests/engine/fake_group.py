"""Engines whose ranks are `fake_rank.py`: real processes and pipes, no torch, so a group starts at once."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.loading.fitting import Start
from diffusion_runtime.planning.documents import Execution, Plan
from diffusion_runtime.server.engine import Engine
from diffusion_runtime.server.limits import Limits
from diffusion_runtime.server.metrics import EngineMetrics
from diffusion_runtime.server.rank_group import RankCommand, RankGroup

FAKE_RANK = Path(__file__).with_name("fake_rank.py")
QUICK = Limits(heartbeat_s=20.0, progress_s=20.0, start_s=20.0, settle_s=0.3, drain_grace_s=0.0)
REQUEST = PictureRequest(prompt="x", width=64, height=64, steps=4, guidance_scale=4.0, seed=7)


def fake_engine(
    folder: Path,
    plan: Plan,
    script: list[dict[str, Any]],
    limits: Limits = QUICK,
    start: Start | None = None,
    oom_kills: Callable[[], int] = lambda: 0,
) -> Engine:
    """An engine whose n-th rank group behaves as the n-th entry of the script."""
    path = folder / "script.json"
    path.write_text(json.dumps(script))
    command = RankCommand((sys.executable, str(FAKE_RANK), str(path)), {})

    def start_group(execution: Execution) -> RankGroup:
        return RankGroup(command, execution, folder, limits, time.monotonic, oom_kills=oom_kills)

    return Engine(plan, start_group, limits, EngineMetrics(), time.monotonic, start)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process brings about; pytest's own timeout ends it."""
    while not condition():  # noqa: ASYNC110  # nothing signals it: the test looks from outside
        await asyncio.sleep(0.01)
