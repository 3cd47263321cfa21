"""Clients that hung up do not take the queue's room from those that wait."""

from __future__ import annotations

import asyncio

import pytest

from diffusion_runtime.server.jobs import Job, JobQueue, QueueFull
from engine.fake_group import REQUEST


def job() -> Job:
    return Job([REQUEST], asyncio.get_running_loop().create_future())


async def test_abandoned_requests_make_room_in_a_full_queue() -> None:
    queue = JobQueue(capacity=2)
    gone, waiting, late, later = job(), job(), job(), job()
    queue.put(gone)
    queue.put(waiting)
    with pytest.raises(QueueFull):
        queue.put(late)
    gone.abandoned = True
    queue.put(late)
    assert gone.result.done(), "an accepted request is always answered"
    with pytest.raises(QueueFull):
        queue.put(later)
    assert [queue.take(), queue.take()] == [waiting, late]
    queue.finished()
    assert queue.idle.is_set()
