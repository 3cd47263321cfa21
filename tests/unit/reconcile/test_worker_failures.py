"""What a failing reconcile costs: its own key a back-off, and nobody else anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from diffusion_operator.kube.errors import ApiError, Forbidden, NotFound, ServerError, TooManyRequests
from diffusion_operator.kube.resources import JsonObject
from diffusion_operator.reconcile.children import ChildLeaving
from diffusion_operator.reconcile.keys import DeploymentKey, Key
from diffusion_operator.reconcile.metrics import Metrics
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.queue import KeyedQueue
from diffusion_operator.reconcile.story import Outcome
from diffusion_operator.reconcile.worker import NOT_THE_KEY_S_LONGEST_DELAY_S, resync, work
from unit.reconcile.fakecluster import FakeCluster
from unit.reconcile.test_queue_semantics import Handle, ManualTimers
from unit.reconcile.worlds import demo

BAD, GOOD = DeploymentKey("team", "bad"), DeploymentKey("team", "good")


class Scripted:
    """A reconciler that fails for one key."""

    def __init__(self, error: Exception, queue: KeyedQueue[Key]) -> None:
        self.error, self.queue = error, queue
        self.waiting: set[DeploymentKey] = set()

    async def reconcile(self, key: DeploymentKey) -> Outcome:
        if key == BAD:
            raise self.error
        self.queue.close()
        return Outcome()


class NotedTimers(ManualTimers):
    """Remembers every appointment."""

    def __init__(self) -> None:
        super().__init__()
        self.delays_s: list[float] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Handle:
        self.delays_s.append(delay)
        return super().call_later(delay, callback)


@pytest.mark.parametrize(
    ("error", "result", "delay_s"),
    [
        (ServerError("500"), "apiError", 0.5),
        (TooManyRequests("429", retry_after_s=120.0), "apiError", 120.0),
        (ChildLeaving("still there"), "apiError", 0.5),
        (TimeoutError(), "timeout", 0.5),
        (ZeroDivisionError("ours"), "bug", 0.5),
    ],
)
async def test_a_failure_is_queued_again_and_the_next_key_is_served(
    error: Exception, result: str, delay_s: float
) -> None:
    timers = NotedTimers()
    queue: KeyedQueue[Key] = KeyedQueue(timers, uniform=lambda _low, high: high)
    metrics = Metrics()
    queue.add(BAD)
    queue.add(GOOD)
    reconciler: Any = Scripted(error, queue)
    await work(queue, reconciler, metrics)
    assert timers.delays_s == [delay_s]
    assert metrics.reconciles.labels(result)._value.get() == 1.0
    assert metrics.reconciles.labels("done")._value.get() == 1.0


class Listing(FakeCluster):
    """Lists fail with these errors first."""

    errors: list[ApiError]

    async def list_at(self, *given: Any, **named: Any) -> tuple[list[JsonObject], str]:
        if self.errors:
            raise self.errors.pop(0)
        return await super().list_at(*given, **named)


async def test_the_first_list_queues_everything_and_makes_the_operator_ready() -> None:
    cluster, queue = Listing(), KeyedQueue[Key](ManualTimers())
    cluster.errors = [ServerError("etcd is away")]
    cluster.submit(demo())
    ready, slept = asyncio.Event(), []

    class EndOfTest(Exception):
        pass

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            assert not ready.is_set()
        else:
            raise EndOfTest

    with pytest.raises(EndOfTest):
        await resync(cluster, Mirror(), queue, (), ready, sleep=sleep)
    assert await queue.get() == DeploymentKey("team", "demo")
    assert ready.is_set()
    assert slept[0] == 5.0
    assert 540 <= slept[1] <= 660


async def test_a_definition_that_is_gone_is_named_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    cluster, queue = Listing(), KeyedQueue[Key](ManualTimers())
    cluster.errors = [NotFound("GET /apis/…: 404")]
    cluster.submit(demo())

    class EndOfTest(Exception):
        pass

    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise EndOfTest

    with pytest.raises(EndOfTest):
        await resync(cluster, Mirror(), queue, (), asyncio.Event(), sleep=sleep)
    assert "404: is its custom resource definition installed?; again in 5 s" in caplog.text
    assert await queue.get() == DeploymentKey("team", "demo")


@pytest.mark.parametrize(
    ("error", "longest_s"), [(Forbidden("403"), NOT_THE_KEY_S_LONGEST_DELAY_S), (ServerError("500"), 256.0)]
)
async def test_what_is_no_fault_of_the_key_is_tried_again_sooner(error: ApiError, longest_s: float) -> None:
    timers = NotedTimers()
    queue: KeyedQueue[Key] = KeyedQueue(timers, uniform=lambda _low, high: high)
    for _ in range(9):
        queue.add_failed(BAD)
    timers.delays_s.clear()
    queue.add(BAD)
    queue.add(GOOD)
    reconciler: Any = Scripted(error, queue)
    await work(queue, reconciler, Metrics())
    assert timers.delays_s == [longest_s]
