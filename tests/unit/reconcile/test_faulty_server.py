"""F6 and F7: the k-th write is refused, or done and its answer lost; the end is the undisturbed run's."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from diffusion_operator.kube.errors import (
    ApiError,
    Conflict,
    Forbidden,
    ServerError,
    StoreWentBack,
    TooManyRequests,
    Unreachable,
)
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

    error: ApiError = Unreachable("nobody there")

    async def list_at(self, *_: Any, **__: Any) -> Any:
        raise self.error


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


async def test_a_server_that_refuses_is_spoken_of_and_no_reason_to_restart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """F9: rights that are taken away come back; a process that ended meanwhile would only be later."""
    now, mirror = [0.0], Mirror()
    streams = Streams(mirror, monotonic=lambda: now[0])
    refusing = Failing()
    refusing.error = Forbidden("cannot list pods", status=403)
    for _ in range(10):
        now[0] += SILENT_AFTER_S + 1
        await streams.mend(refusing)
    assert streams.problem() is None
    assert "pods: cannot list pods: the operator's role does not allow it" in streams.refusals()
    assert "the watch of pods is refused: cannot list pods" in caplog.text
    now[0] += SILENT_AFTER_S + 1
    await streams.mend(FakeCluster())
    assert streams.refusals() == []


async def test_a_store_that_went_back_ends_the_process() -> None:
    """F8: etcd came back from a backup, and nothing that the mirror knows can be compared any more."""
    cluster, mirror = FakeCluster(), Mirror()
    cluster.submit(demo())
    cluster.version = 5000
    await mirror.refresh(cluster)
    await mirror.refresh(cluster)
    cluster.version = 4000
    with pytest.raises(StoreWentBack, match="resourceVersion 4000 and was at 5000"):
        await mirror.refresh(cluster)


async def test_a_watch_s_list_that_is_behind_is_checked_by_hand_at_once() -> None:
    """It may only have been overtaken: a list that begins now must be newer."""
    now, mirror, cluster = [1000.0], Mirror(), FakeCluster()
    streams = Streams(mirror, monotonic=lambda: now[0])
    cluster.version = 5000
    streams.listed(DIFFUSION_DEPLOYMENTS.path(), "5000")
    streams.listed(DIFFUSION_DEPLOYMENTS.path(), "4999")
    await streams.mend(cluster)
    assert cluster.reads == 1
    await streams.mend(cluster)
    assert cluster.reads == 1
    streams.listed(DIFFUSION_DEPLOYMENTS.path(), "4000")
    cluster.version = 4000
    with pytest.raises(StoreWentBack):
        await streams.mend(cluster)
