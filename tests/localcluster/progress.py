"""Says what is going on: a line per step with the time since the start, and a heartbeat in the long ones."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HEARTBEAT_SECONDS = 20.0
_START = time.monotonic()


def say(text: str) -> None:
    """Print one line, with the seconds since the program started in front."""
    sys.stdout.write(f"[{time.monotonic() - _START:4.0f}s] {text}\n")
    sys.stdout.flush()


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step, repeat every 20 s that it is still running, and say how long it took (also when it
    fails).
    """
    began = time.monotonic()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(HEARTBEAT_SECONDS):
            say(f"  … {title}: still at it after {time.monotonic() - began:.0f} s")

    say(title)
    beater = threading.Thread(target=beat, daemon=True)
    beater.start()
    try:
        yield
    except BaseException:
        say(f"  ✗ {title}: failed after {time.monotonic() - began:.1f} s")
        raise
    finally:
        ended.set()
        beater.join()
    say(f"  ✓ {title}: {time.monotonic() - began:.1f} s")
