"""What a case tells: how many runs, how long until rest, and figures worth publishing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from builders.simulated_time import SimulatedLoop


@dataclass(frozen=True)
class Outcome:
    """`seconds` are simulated, from the end of the fault to the last write."""

    seconds: float
    runs: int = 1
    figures: dict[str, float] = field(default_factory=dict)


Case = Callable[[SimulatedLoop], Awaitable[Outcome]]
