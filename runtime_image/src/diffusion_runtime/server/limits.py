"""The engine's patience, in seconds and counts. One place, so that tests can inject short times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """`heartbeat_s`: a ready rank answers a ping within this. `progress_s`: a drawing rank ends a step or
    phase within this. `start_s`: a group is ready within this. `settle_s`: after a first sign of failure,
    other ranks have this long to give a better reason. `drain_grace_s`: requests still accepted after
    SIGTERM, while endpoints are withdrawn.
    """

    queue_capacity: int = 16
    heartbeat_s: float = 30.0
    progress_s: float = 300.0
    start_s: float = 840.0  # below the operator's startup probe, so that we say what is slow
    settle_s: float = 2.0
    drain_grace_s: float = 5.0
    max_group_failures: int = 3
    failure_window_s: float = 600.0
