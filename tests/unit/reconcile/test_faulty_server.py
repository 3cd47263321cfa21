"""F6 and F7: the k-th write is refused, or done and its answer lost; the end is the undisturbed run's."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from diffusion_operator.kube.errors import ApiError, Conflict, ServerError, TooManyRequests, Unreachable
from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS, WATCHED
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.streams import (
    SILENT_AFTER_S,
    UNWELL_AFTER_S,
    Streams,
)
from unit.reconcile.fakecluster import FakeCluster
from unit.reconcile.worlds import World, demo

WRITES = ("apply", "apply_status", "delete", "create_event")
FAULTS: dict[str, tuple[ApiError, bool]] = {
    "409": (Conflict("conflict", status=409), False),
    "429": (TooManyRequests("slow down", status=429, retry_after_s=1.0), False),
    "500": (ServerError("500", status=500), False),
    "503": (ServerError("503", status=503), False),
    "answer lost": (Unreachable("reset"), True),
}


def break_write(cluster: Any, number: int, error: ApiError, *, done: bool) -> None:
    """The write of this number, counted from now, raises; `done` says whether it happened."""
    count = [0]
    for name in WRITES:
        original = getattr(cluster, name)

        async def broken(*given: Any, _original: Any = original, **named: Any) -> Any:
            count[0] += 1
            if count[0] != number:
                return await _original(*given, **named)
            if done:
                await _original(*given, **named)
            raise error

        setattr(cluster, name, broken)


async def changed(fault: str | None = None, number: int = 0) -> World:
    """One deployment that serves, then gets a new plan and a second replica, with one broken write."""
    made = World(FakeCluster())
    made.cluster.add_node("node-1", 8)
    made.cluster.submit(demo())
    await made.settle()
    made.cluster.submit(demo(gpus=2, replicas=2))
    if fault is not None:
        break_write(made.cluster, number, *FAULTS[fault][:1], done=FAULTS[fault][1])
    for _ in range(4):
        with contextlib.suppress(ApiError):
            await made.reconcile()
        made.cluster.run_controllers()
    await made.settle()
    return made


@pytest.mark.parametrize("fault", FAULTS)
async def test_every_broken_write_is_made_up_for(fault: str) -> None:
    expected = (await changed()).cluster
    for number in range(1, 6):
        found = (await changed(fault, number)).cluster
        assert found.state() == expected.state(), f"{fault} at write {number}"
        assert found.names(DIFFUSION_DEPLOYMENTS) == ["demo"]


class Failing(FakeCluster):
    """Every list fails."""

    async def list_at(self, *_: Any, **__: Any) -> Any:
        raise Unreachable("nobody there")


async def test_a_silent_watch_is_listed_and_only_a_lasting_failure_is_unwell() -> None:
    """F4 and F8: an API server that is away for five minutes does not get the operator killed."""
    now, mirror = [0.0], Mirror()
    streams = Streams(mirror, monotonic=lambda: now[0])
    now[0] = SILENT_AFTER_S + 1
    await streams.mend(Failing())
    assert streams.problem() is None
    now[0] += UNWELL_AFTER_S - 1
    await streams.mend(Failing())
    assert streams.problem() is None
    now[0] += 2
    problem = streams.problem()
    assert problem is not None
    assert "is silent and lists fail for 301 s: nobody there" in problem
    healthy = FakeCluster()
    healthy.submit(demo())
    await streams.mend(healthy)
    assert streams.problem() is None
    assert mirror.synced
    reads = healthy.reads
    now[0] += SILENT_AFTER_S - 1
    await streams.mend(healthy)
    assert healthy.reads == reads
    now[0] += 2
    await streams.mend(healthy)
    assert healthy.reads == reads + len(WATCHED)
