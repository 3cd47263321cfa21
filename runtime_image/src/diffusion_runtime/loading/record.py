"""What loading has done so far: bytes, and seconds per stage. Start-up is judged by this, not by its length.

Stages of one rank: `build` (modules without storage), `read` (files into their final place; reading, casting
and copying overlap), `place` (page-locking, moving what no file holds, sharding).
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REPORT_SECONDS = 5.0
Report = Callable[[int, int], None]


class LoadRecord:
    """`report(bytes done, bytes in all)` is called at most every `REPORT_SECONDS`, from any thread."""

    def __init__(self, report: Report = lambda *_: None, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.bytes_read = 0
        self.bytes_in_all = 0
        self._report = report
        self._clock = clock
        self._reported_at = clock()
        self._open: list[str] = []
        self._lock = threading.Lock()

    def expect(self, total: int) -> None:
        """So many bytes more will be read."""
        self.bytes_in_all += total

    def add(self, count: int) -> None:
        """So many bytes have been read."""
        with self._lock:
            self.bytes_read += count
            now = self._clock()
            if now - self._reported_at < REPORT_SECONDS:
                return
            self._reported_at = now
            self._report(self.bytes_read, self.bytes_in_all)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what passes inside as `name`, and no longer as the stage around it."""
        start = self._clock()
        self._open.append(name)
        try:
            yield
        finally:
            self._open.pop()
            took = self._clock() - start
            self.seconds[name] += took
            if self._open:
                self.seconds[self._open[-1]] -= took
