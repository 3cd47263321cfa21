"""Seconds and peak bytes of one phase on one rank.

On a CPU there are no device bytes to report, so they stay null.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from diffusion_runtime.planning.documents import PhaseMeasurement


class Measurements:
    """Collects one PhaseMeasurement per phase, in the order they ran."""

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
        if not cuda:
            self.phases[name] = PhaseMeasurement(seconds=seconds)
            return
        free, total = torch.cuda.mem_get_info(self._device)
        self.phases[name] = PhaseMeasurement(
            allocated_bytes=torch.cuda.max_memory_allocated(self._device),
            reserved_bytes=torch.cuda.max_memory_reserved(self._device),
            driver_bytes=total - free,
            seconds=seconds,
        )
