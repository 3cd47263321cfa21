"""The keyed queue with a clock that only moves when told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from diffusion_operator.reconcile.queue import KeyedQueue, QueueClosed


@dataclass
class Handle:
    due_s: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class ManualTimers:
    """Simulated time."""

    now_s: float = 0.0
    handles: list[Handle] = field(default_factory=list)

    def time(self) -> float:
        return self.now_s

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        handle = Handle(self.now_s + delay, callback)
        self.handles.append(handle)
        return handle

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        due = [h for h in self.handles if h.due_s <= self.now_s and not h.cancelled]
        self.handles = [h for h in self.handles if h not in due and not h.cancelled]
        for handle in due:
            handle.callback()


@pytest.fixture
def timers() -> ManualTimers:
    return ManualTimers()


@pytest.fixture
def queue(timers: ManualTimers) -> KeyedQueue[str]:
    return KeyedQueue(timers, uniform=lambda _low, high: high)


async def test_a_key_added_twice_is_handed_out_once(queue: KeyedQueue[str]) -> None:
    queue.add("a")
    queue.add("b")
    queue.add("a")
    assert [await queue.get(), await queue.get()] == ["a", "b"]
    assert len(queue) == 0


async def test_a_key_added_while_it_runs_runs_again_and_not_beside_itself(queue: KeyedQueue[str]) -> None:
    queue.add("a")
    key = await queue.get()
    queue.add("a")
    queue.add("a")
    second = asyncio.ensure_future(queue.get())
    await asyncio.sleep(0)
    assert not second.done()
    queue.done(key)
    assert await second == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_a_delayed_key_comes_at_its_time(queue: KeyedQueue[str], timers: ManualTimers) -> None:
    queue.add_after("a", 15.0)
    timers.advance(14.9)
    assert (len(queue), queue.delayed) == (0, 1)
    timers.advance(0.2)
    assert await queue.get() == "a"


async def test_the_earlier_of_two_appointments_holds(queue: KeyedQueue[str], timers: ManualTimers) -> None:
    queue.add_after("a", 15.0)
    queue.add_after("a", 5.0)
    queue.add_after("a", 30.0)
    assert queue.delayed == 1
    timers.advance(5.0)
    assert await queue.get() == "a"
    queue.done("a")
    timers.advance(60.0)
    assert len(queue) == 0


async def test_an_immediate_add_meets_a_later_appointment(
    queue: KeyedQueue[str], timers: ManualTimers
) -> None:
    queue.add_after("a", 15.0)
    queue.add("a")
    assert await queue.get() == "a"
    queue.done("a")
    timers.advance(60.0)
    assert len(queue) == 0


async def test_an_appointment_that_falls_due_while_the_key_runs_is_kept(
    queue: KeyedQueue[str], timers: ManualTimers
) -> None:
    queue.add("a")
    await queue.get()
    queue.add_after("a", 1.0)
    timers.advance(2.0)
    assert len(queue) == 1
    queue.done("a")
    assert await queue.get() == "a"


async def test_failures_back_off_from_half_a_second_to_five_minutes(queue: KeyedQueue[str]) -> None:
    delays = []
    for _ in range(12):
        queue.add("a")
        await queue.get()
        delays.append(queue.add_failed("a"))
        queue.done("a")
    assert delays[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert delays[-1] == 300.0
    assert queue.add_failed("b") == 0.5
    queue.forget("a")
    assert queue.add_failed("a") == 0.5


async def test_the_back_off_is_jittered_and_never_below_what_the_server_asked_for(
    timers: ManualTimers,
) -> None:
    queue: KeyedQueue[str] = KeyedQueue(timers, uniform=lambda low, _high: low)
    assert queue.add_failed("a") == 0.25
    assert queue.add_failed("b", at_least_s=40.0) == 40.0


async def test_closing_ends_every_waiting_worker_and_drops_appointments(
    queue: KeyedQueue[str], timers: ManualTimers
) -> None:
    waiting = [asyncio.ensure_future(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.add_after("a", 1.0)
    queue.close()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [QueueClosed] * 3
    queue.add("b")
    timers.advance(5.0)
    assert (len(queue), queue.delayed) == (0, 0)
