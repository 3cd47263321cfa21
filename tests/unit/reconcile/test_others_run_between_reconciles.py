"""A thousand reconciles that never wait leave the event loop to others: a renewal must not be late."""

from __future__ import annotations

import asyncio
from typing import cast

from diffusion_operator.reconcile.keys import DeploymentKey, Key
from diffusion_operator.reconcile.metrics import Metrics
from diffusion_operator.reconcile.queue import KeyedQueue
from diffusion_operator.reconcile.story import Outcome, Reconciler
from diffusion_operator.reconcile.worker import work
from unit.reconcile.test_queue_semantics import ManualTimers

KEYS = 1000


class NeverWaits:
    """A reconciler with nothing to write."""

    def __init__(self) -> None:
        self.waiting: set[DeploymentKey] = set()
        self.done = 0

    async def reconcile(self, _key: DeploymentKey) -> Outcome:
        self.done += 1
        return Outcome()


async def test_another_task_runs_after_each() -> None:
    queue: KeyedQueue[Key] = KeyedQueue(ManualTimers())
    for number in range(KEYS):
        queue.add(DeploymentKey("team", f"dd-{number}"))
    reconciler, at_once = NeverWaits(), [0]

    async def other() -> None:
        before = 0
        while reconciler.done < KEYS:
            await asyncio.sleep(0)
            at_once.append(reconciler.done - before)
            before = reconciler.done
        queue.close()

    async with asyncio.TaskGroup() as group:
        group.create_task(other())
        for _ in range(8):
            group.create_task(work(queue, cast(Reconciler, reconciler), Metrics()))
    assert (reconciler.done, max(at_once)) == (KEYS, 8)
