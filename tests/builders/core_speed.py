"""How slow this core is now, so that a limit in milliseconds means the same on a busy machine.

CPU time is no fixed measure: a core that shares its caches and clock with others takes twice as long for the
same instructions. A fixed loop of the interpreter's common work is timed beside what is tested; the ratio of
the two stayed within 6 % where both doubled. It never makes a limit tighter.
"""

from __future__ import annotations

from time import process_time

QUIET_S = 0.0027
"""The loop on a core with nothing beside it, where the slowest plan took 3.9 ms."""


class CoreSpeed:
    """Time the loop as often as the work, in turns; `slowness` is that of the best time."""

    def __init__(self) -> None:
        self._least_s = float("inf")

    def look(self) -> None:
        """Run the loop once."""
        start_s = process_time()
        _loop()
        self._least_s = min(self._least_s, process_time() - start_s)

    @property
    def slowness(self) -> float:
        """1.0 on a quiet core, 2.0 where everything takes twice as long."""
        return max(1.0, self._least_s / QUIET_S)


def _loop() -> object:
    table: dict[tuple[int, str], int] = {}
    for number in range(4000):
        key = (number % 97, str(number))
        table[key] = table.get(key, 0) + number
    return sorted(table.items(), key=lambda item: (item[0][0], item[1]))[0]
