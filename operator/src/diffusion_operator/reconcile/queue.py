"""A keyed work queue: many hints in, one reconcile at a time per key out.

Semantics of client-go's workqueue: a key is queued once, runs in at most one worker, and an add while it
runs queues it again afterwards. A key can be held: until then it is not due. It never looks at what a key
means. Time comes from the event loop or a test.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 300.0


class Cancellable(Protocol):
    """A timer that has been set."""

    def cancel(self) -> None: ...


class Timers(Protocol):
    """The part of an event loop that the queue needs."""

    def time(self) -> float: ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Cancellable: ...


class QueueClosed(Exception):
    """The queue was shut down; the worker that asked is to end."""


@dataclass
class _Timer:
    due_s: float
    handle: Cancellable


class KeyedQueue(Generic[K]):
    """See the module. All methods run on the event loop; nothing here is thread safe."""

    def __init__(self, timers: Timers, *, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._timers = timers
        self._uniform = uniform
        self._ready: asyncio.Queue[K | None] = asyncio.Queue()
        self._queued: dict[K, float] = {}
        self._running: set[K] = set()
        self._dirty: dict[K, float] = {}
        self._delayed: dict[K, _Timer] = {}
        self._failures: dict[K, int] = {}
        self._held: dict[K, float] = {}
        self._closed = False

    def __len__(self) -> int:
        """Keys that are due now and not running."""
        return len(self._queued) + len(self._dirty)

    @property
    def oldest_s(self) -> float:
        """Seconds for which the key that is due longest has waited; 0 when none is due."""
        due = min([*self._queued.values(), *self._dirty.values()], default=None)
        return 0.0 if due is None else max(0.0, self._timers.time() - due)

    @property
    def delayed(self) -> int:
        """Keys that wait for their time."""
        return len(self._delayed)

    def add(self, key: K) -> None:
        """Make the key due now; an earlier appointment of the same key is met by this run."""
        if self._closed:
            return
        if self._held_for_s(key) > 0:
            self._appoint(key, self._held[key])
            return
        self._cancel_timer(key)
        if key in self._running:
            self._dirty.setdefault(key, self._timers.time())
        elif key not in self._queued:
            self._queued[key] = self._timers.time()
            self._ready.put_nowait(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Make the key due in `delay_s` seconds, unless it is due earlier anyway."""
        if self._closed or key in self._queued or key in self._dirty:
            return
        self._appoint(key, self._timers.time() + max(delay_s, self._held_for_s(key)))

    def hold(self, key: K, until_s: float) -> None:
        """The key is not due before `until_s` of the timers' clock, but what is due already is."""
        self._held[key] = until_s
        timer = self._delayed.get(key)
        if timer is not None and timer.due_s < until_s:
            self._cancel_timer(key)
            self._appoint(key, until_s)

    def release(self, key: K) -> None:
        """The key is not held any more."""
        self._held.pop(key, None)

    def add_failed(self, key: K, *, at_least_s: float = 0.0, at_most_s: float = LONGEST_DELAY_S) -> float:
        """Make the key due after its back-off (0.5 s doubling to 5 min, jittered); returns the delay."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        ceiling_s = min(at_most_s, FIRST_DELAY_S * 2.0 ** min(failures, 20))
        delay_s = max(at_least_s, self._uniform(0.5, 1.0) * ceiling_s)
        self.add_after(key, delay_s)
        return delay_s

    def forget(self, key: K) -> None:
        """The key succeeded or is gone: its next failure starts from the shortest delay."""
        self._failures.pop(key, None)

    async def get(self) -> K:
        """The next due key; call `done` afterwards. Raises QueueClosed after `close`."""
        key = await self._ready.get()
        if key is None or self._closed:
            self._ready.put_nowait(None)  # wakes the next worker
            raise QueueClosed
        self._queued.pop(key, None)
        self._running.add(key)
        return key

    def done(self, key: K) -> None:
        """The run of this key ended; if it was added meanwhile it is due again now."""
        self._running.discard(key)
        if key in self._dirty:
            since_s = self._dirty.pop(key)
            self.add(key)
            if key in self._queued:
                self._queued[key] = since_s

    def close(self) -> None:
        """Hand out nothing more. Runs in progress may end."""
        self._closed = True
        for key in list(self._delayed):
            self._cancel_timer(key)
        self._ready.put_nowait(None)

    def _held_for_s(self, key: K) -> float:
        """Seconds for which the key is still held."""
        left_s = self._held.get(key, 0.0) - self._timers.time()
        if left_s <= 0:
            self._held.pop(key, None)
        return max(0.0, left_s)

    def _appoint(self, key: K, due_s: float) -> None:
        """Make the key due then, unless it has an earlier appointment."""
        current = self._delayed.get(key)
        if current is not None and current.due_s <= due_s:
            return
        self._cancel_timer(key)
        delay_s = due_s - self._timers.time()
        self._delayed[key] = _Timer(due_s, self._timers.call_later(delay_s, lambda: self._fire(key)))

    def _fire(self, key: K) -> None:
        timer = self._delayed.pop(key)
        if self._held.get(key, 0.0) <= timer.due_s:
            self._held.pop(key, None)  # the timer may fire a little early
        self.add(key)

    def _cancel_timer(self, key: K) -> None:
        timer = self._delayed.pop(key, None)
        if timer is not None:
            timer.handle.cancel()
