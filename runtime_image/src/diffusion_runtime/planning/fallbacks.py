"""What an engine may do instead when memory runs short: same GPUs, falling peaks, explicit settings
still held.
"""

from __future__ import annotations

from diffusion_runtime.planning.documents import Fallback
from diffusion_runtime.planning.evaluate import Weighed
from diffusion_runtime.planning.problem import Problem
from diffusion_runtime.planning.screening import everything, front
from diffusion_runtime.planning.wire import fallback

MOST_FALLBACKS = 4
LEAST_GAIN_BYTES = 64 * 2**20
"""A fallback that frees less than this would meet the same fate as the plan."""


def choose_fallbacks(problem: Problem, chosen: Weighed) -> tuple[Fallback, ...]:
    """At most four points of the speed-memory front below the plan's peak, the fastest first.

    None in manual mode or when the user forbids downgrades.
    """
    if not problem.intent.allow_downgrade or (
        problem.intent.mode == "manual" and problem.intent.bias is None
    ):
        return ()
    candidates = [
        w
        for w in everything(problem, chosen.gpus, chosen.slot, like=chosen.option.layout)
        if w.peak <= chosen.peak - LEAST_GAIN_BYTES and not w.host_shortfall
    ]
    falling: list[Weighed] = []
    for candidate in reversed(front(candidates)):
        if not falling or candidate.peak <= falling[-1].peak - LEAST_GAIN_BYTES:
            falling.append(candidate)
    if len(falling) > MOST_FALLBACKS:
        last = len(falling) - 1
        falling = [falling[round(i * last / (MOST_FALLBACKS - 1))] for i in range(MOST_FALLBACKS)]
    return tuple(fallback(problem, candidate) for candidate in falling)
