"""Seconds and peak bytes of one phase on one rank.

On a CPU there are no device bytes to report, so they stay null.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch

from diffusion_runtime.planning.documents import PhaseMeasurement


class Measurements:
    """Collects one PhaseMeasurement per phase, in the order they ran. A phase that comes back adds to its
    own: seconds add up, peaks are the highest.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.phases: dict[str, PhaseMeasurement] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure one block; device work is waited for at both ends."""
        cuda = self._device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        start = time.monotonic()
        yield
        if cuda:
            torch.cuda.synchronize(self._device)
        seconds = time.monotonic() - start
        self._add(name, self._memory(seconds) if cuda else PhaseMeasurement(seconds=seconds))

    @contextmanager
    def following(self) -> Iterator[Callable[[str], None]]:
        """Yields what to call when a phase begins: it ends the one before. The last ends with the block."""
        with ExitStack() as now:

            def enter(name: str) -> None:
                now.close()
                now.enter_context(self.phase(name))

            yield enter

    def _memory(self, seconds: float) -> PhaseMeasurement:
        free, total = torch.cuda.mem_get_info(self._device)
        reserved = torch.cuda.max_memory_reserved(self._device)
        # What the phase gave back before its end was in use all the same.
        returned = reserved - torch.cuda.memory_reserved(self._device)
        return PhaseMeasurement(
            allocated_bytes=torch.cuda.max_memory_allocated(self._device),
            reserved_bytes=reserved,
            driver_bytes=total - free + returned,
            seconds=seconds,
        )

    def _add(self, name: str, now: PhaseMeasurement) -> None:
        before = self.phases.get(name)
        self.phases[name] = now if before is None else _together(before, now)


def _together(before: PhaseMeasurement, now: PhaseMeasurement) -> PhaseMeasurement:
    return PhaseMeasurement(
        allocated_bytes=_highest(before.allocated_bytes, now.allocated_bytes),
        reserved_bytes=_highest(before.reserved_bytes, now.reserved_bytes),
        driver_bytes=_highest(before.driver_bytes, now.driver_bytes),
        seconds=(before.seconds or 0.0) + (now.seconds or 0.0),
    )


def _highest(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)
