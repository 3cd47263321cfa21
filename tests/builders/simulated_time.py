"""An event loop whose clock jumps: real sockets on loopback, and ten simulated minutes in a second.

The clock moves only when nothing can happen without it: nothing is ready and no request is under way. It is
for one process that holds client and server; it does not slow threads or other processes.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
GRACE_S = 0.001
STUCK_AFTER_S = 60.0


class SimulatedLoop(asyncio.SelectorEventLoop):
    """`time()` is simulated; `working()` marks what real input and output must finish first."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.under_way = 0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Simulated seconds since the loop was made."""
        return self.now_s

    @contextmanager
    def working(self) -> Iterator[None]:
        """A request is under way: the clock stands still."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside `working`: this one waits for the clock."""
        self.under_way -= 1
        try:
            yield
        finally:
            self.under_way += 1


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        found: list[Any] = super().select(0)
        if found or timeout == 0:
            return found
        if self._loop.under_way > 0 or timeout is None:
            found = super().select(STUCK_AFTER_S)
            if not found:
                raise RuntimeError("nothing comes: a request hangs, or every task waits and no timer is set")
            return found
        found = super().select(GRACE_S)
        if found:
            return found
        self._loop.now_s += timeout
        return []


def simulate(main: Callable[[SimulatedLoop], Coroutine[Any, Any, T]]) -> T:
    """Run `main` to its end on a loop of its own."""
    loop = SimulatedLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))
