"""A spec that changes again and again starts few roll-outs; a single change is acted on at once."""

from __future__ import annotations

from diffusion_operator.reconcile.hints import CHILDREN_TOGETHER_S, LONGEST_WAIT_S, QUIET_S, Hints
from diffusion_operator.reconcile.keys import DeploymentKey, Key
from diffusion_operator.reconcile.queue import KeyedQueue
from unit.reconcile.test_queue_semantics import ManualTimers

KEY = DeploymentKey("team", "demo")
OTHER = DeploymentKey("team", "other")


class Worker:
    """Takes what is due and notes when."""

    def __init__(self) -> None:
        self.timers = ManualTimers()
        self.queue: KeyedQueue[Key] = KeyedQueue(self.timers, uniform=lambda _low, high: high)
        self.hints = Hints(self.queue, self.timers.time)
        self.ran_s: list[float] = []

    async def advance(self, seconds: float) -> None:
        self.timers.advance(seconds)
        await self.run()

    async def run(self) -> None:
        while len(self.queue):
            key = await self.queue.get()
            if key == KEY:
                self.ran_s.append(round(self.timers.now_s, 2))
            self.queue.done(key)


async def test_single_changes_are_acted_on_at_once() -> None:
    worker = Worker()
    for _ in range(3):
        worker.hints.changed(KEY)
        await worker.run()
        await worker.advance(QUIET_S)
    assert worker.ran_s == [0.0, QUIET_S, 2 * QUIET_S]


async def test_a_hundred_flips_in_ten_seconds_are_two_looks_and_the_last_sees_the_last_spec() -> None:
    worker = Worker()
    for _ in range(100):
        worker.hints.changed(KEY)
        await worker.run()
        await worker.advance(0.1)
    flipped_s = worker.timers.now_s
    for _ in range(200):
        await worker.advance(0.1)
    first, last = worker.ran_s
    assert first == 0.0
    assert flipped_s < last <= flipped_s + QUIET_S + 0.01


async def test_a_spec_that_never_rests_is_followed_now_and_then() -> None:
    worker = Worker()
    for _ in range(600):
        worker.hints.changed(KEY)
        await worker.run()
        await worker.advance(0.1)
    waits = [later - earlier for earlier, later in zip(worker.ran_s, worker.ran_s[1:], strict=False)]
    assert len(waits) >= 4
    assert max(waits) <= LONGEST_WAIT_S + 0.2


async def test_other_hints_and_failures_wait_too_and_other_keys_do_not() -> None:
    worker = Worker()
    worker.hints.changed(KEY)
    await worker.run()
    worker.hints.changed(KEY)
    worker.hints.now(KEY)
    worker.hints.soon(KEY)
    worker.queue.add_failed(KEY)
    worker.hints.changed(OTHER)
    await worker.run()
    await worker.advance(QUIET_S - 0.1)
    assert worker.ran_s == [0.0]
    await worker.advance(0.1)
    assert worker.ran_s == [0.0, QUIET_S]
    await worker.advance(60.0)
    assert worker.ran_s == [0.0, QUIET_S]


async def test_a_change_while_the_key_runs_waits_as_well() -> None:
    worker = Worker()
    worker.hints.changed(KEY)
    running = await worker.queue.get()
    worker.hints.changed(KEY)
    worker.queue.done(running)
    await worker.run()
    assert worker.ran_s == []
    await worker.advance(QUIET_S)
    assert worker.ran_s == [QUIET_S]


async def test_an_object_that_goes_or_comes_back_is_looked_at_at_once() -> None:
    worker = Worker()
    worker.hints.changed(KEY)
    await worker.run()
    worker.hints.changed(KEY)
    worker.hints.renewed(KEY)
    await worker.run()
    worker.hints.changed(KEY)
    await worker.run()
    assert worker.ran_s == [0.0, 0.0, 0.0]


async def test_children_that_change_together_are_one_look() -> None:
    worker = Worker()
    for _ in range(5):
        worker.hints.soon(KEY)
        await worker.advance(CHILDREN_TOGETHER_S / 5)
    assert worker.ran_s == [CHILDREN_TOGETHER_S]
