"""The engine's patience, in seconds and counts. One place, so that tests can inject short times."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_runtime.planning.longest_work import QUEUE_CAPACITY


@dataclass(frozen=True)
class Limits:
    """`heartbeat_s`: a rank that is silent, or stopped by a signal, for longer is hung; with the time between
    two looks that is under 30 s. `collective_s`: ranks wait for each other this long inside of a collective.
    `progress_s`: a step or phase of a rank that is alive ends within this; long, because a decode on a CPU
    takes many minutes. `start_s`: a loading rank gets on within this; how long loading takes in all is no
    matter. `settle_s`: after a first sign of failure,
    other ranks have this long to give a better reason. `drain_grace_s`: requests still accepted after
    SIGTERM, while endpoints are withdrawn. `drain_s`: from SIGTERM to the end, as the pod is given it; None:
    as long as the accepted requests take. `queue_s`: predicted seconds of work that are accepted at once;
    None: only requests are counted.
    """

    queue_capacity: int = QUEUE_CAPACITY
    queue_s: float | None = None
    heartbeat_s: float = 20.0
    collective_s: float = 300.0
    progress_s: float = 1800.0
    start_s: float = 300.0
    settle_s: float = 2.0
    drain_grace_s: float = 5.0
    drain_s: float | None = None
    max_group_failures: int = 3
    failure_window_s: float = 600.0

    @property
    def look_s(self) -> float:
        """Between two looks at a rank."""
        return min(self.heartbeat_s, self.progress_s) / 4

    @property
    def last_answers_s(self) -> float:
        """Kept back at the end of a drain: to write the last answers and to end the ranks."""
        return min(5.0, self.drain_s / 2) if self.drain_s is not None else 30.0
