"""When a rank has been silent, stopped or stuck for too long. Pure: the times are arguments.

A rank that computes answers pings meanwhile, so a forward, decode or compilation of many minutes is never
taken for silence.
"""

from __future__ import annotations

from dataclasses import dataclass

from .limits import Limits


@dataclass(frozen=True)
class Signs:
    """What is known of a rank; times are the clock's. `stopped_at`: since when its process is stopped by a
    signal, None while it runs. `heard_at` is None while nobody asks it (it is still loading). `loading`: it
    reads weights and tells how far it is; warming up counts as drawing.
    """

    heard_at: float | None
    progress_at: float
    drawing: bool
    stopped_at: float | None = None
    loading: bool = False


def overdue(signs: Signs, now: float, limits: Limits) -> str | None:
    """What the rank failed to do in time, in words; None while there is reason to wait."""
    silent = signs.heard_at is not None and now - signs.heard_at > limits.heartbeat_s
    if signs.stopped_at is not None and (silent or now - signs.stopped_at > limits.heartbeat_s):
        return f"was stopped by a signal for {limits.heartbeat_s:.0f} s"
    if silent:
        return f"gave no sign of life for {limits.heartbeat_s:.0f} s"
    if signs.loading and now - signs.progress_at > limits.start_s:
        return f"made no progress with loading for {limits.start_s:.0f} s"
    if signs.drawing and now - signs.progress_at > limits.progress_s:
        return f"made no progress for {limits.progress_s:.0f} s"
    return None
