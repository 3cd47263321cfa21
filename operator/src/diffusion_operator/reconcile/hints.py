"""How soon a hint is acted on: wishes at once, news of children together, a spec that flaps when it rests.

A first change of a spec is acted on at once. Changes that follow closely wait until the spec has been quiet
for a moment, so that a script or a person who edits ten times starts at most two roll-outs; nobody waits for
ever. It decides nothing about what is done then, and never looks at a spec.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from diffusion_operator.reconcile.keys import Key
from diffusion_operator.reconcile.queue import KeyedQueue

# Pods, ReplicaSets and Deployments change several times within a moment when a roll-out goes on.
CHILDREN_TOGETHER_S = 0.25
QUIET_S = 1.5
LONGEST_WAIT_S = 12.0


@dataclass
class _Changes:
    """When the spec changed last, and since when changes wait."""

    last_s: float
    waiting_since_s: float | None = None


class Hints:
    """Puts keys on the queue. All times are those of the queue's timers."""

    def __init__(self, queue: KeyedQueue[Key], now_s: Callable[[], float]) -> None:
        self._queue = queue
        self._now_s = now_s
        self._changes: dict[Key, _Changes] = {}

    def now(self, key: Key) -> None:
        """Look at once, or when the spec rests."""
        self._queue.add(key)

    def soon(self, key: Key) -> None:
        """A child changed: look when its siblings had a moment to change too."""
        self._queue.add_after(key, CHILDREN_TOGETHER_S)

    def changed(self, key: Key) -> None:
        """The spec of an object that existed has changed."""
        now_s = self._now_s()
        self._forget_quiet(now_s)
        known = self._changes.get(key)
        if known is None:
            self._changes[key] = _Changes(now_s)
        else:
            if known.waiting_since_s is None or now_s - known.waiting_since_s >= LONGEST_WAIT_S:
                known.waiting_since_s = now_s
            known.last_s = now_s
            self._queue.hold(key, min(now_s + QUIET_S, known.waiting_since_s + LONGEST_WAIT_S))
        self._queue.add(key)

    def renewed(self, key: Key) -> None:
        """The object is new, or gone: what another one of this name did is of no interest."""
        self._changes.pop(key, None)
        self._queue.release(key)
        self._queue.add(key)

    def _forget_quiet(self, now_s: float) -> None:
        quiet = [key for key, known in self._changes.items() if now_s - known.last_s >= QUIET_S]
        for key in quiet:
            del self._changes[key]
