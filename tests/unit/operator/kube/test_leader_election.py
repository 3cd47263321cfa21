"""Two candidates for one Lease on simulated clocks: never two leaders, and never none for long."""

from __future__ import annotations

import asyncio
import copy
import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from diffusion_operator.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    NotFound,
    ServerError,
    StoreWentBack,
    Unreachable,
)
from diffusion_operator.kube.lease import Lease, LeaseLost, LeaseSettings
from diffusion_operator.kube.resources import JsonObject, Resource

NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Clock:
    """Time moves when every task sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.sleeping: list[tuple[float, int, asyncio.Future[None]]] = []
        self.count = itertools.count()

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self.sleeping, (self.seconds + seconds, next(self.count), woken))
        await woken

    async def run(self, seconds: float, check: Callable[[], None] = lambda: None) -> None:
        """Let this much time pass; `check` runs after every step."""
        end = self.seconds + seconds
        while True:
            for _ in range(20):
                await asyncio.sleep(0)
            check()
            if not self.sleeping or self.sleeping[0][0] > end:
                break
            self.seconds, _, woken = heapq.heappop(self.sleeping)
            if not woken.cancelled():
                woken.set_result(None)
        self.seconds = end
        check()


class Server:
    """Holds one Lease with optimistic concurrency. `fail` decides what becomes of a call of a candidate."""

    def __init__(self) -> None:
        self.lease: JsonObject | None = None
        self.version = 0
        self.fail: Callable[[str, str], ApiError | None] = lambda _who, _verb: None
        self.lose_answer_of: str | None = None

    def write(self, obj: JsonObject) -> JsonObject:
        self.version += 1
        self.lease = copy.deepcopy(obj)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return copy.deepcopy(self.lease)


class Api:
    """One candidate's connection to the server."""

    def __init__(self, server: Server, who: str) -> None:
        self.server, self.who = server, who

    def _may_fail(self, verb: str) -> None:
        error = self.server.fail(self.who, verb)
        if error is not None:
            raise error

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> JsonObject:
        self._may_fail("get")
        if self.server.lease is None:
            raise NotFound("no Lease", status=404)
        return copy.deepcopy(self.server.lease)

    async def create(self, resource: Resource, obj: JsonObject) -> JsonObject:
        self._may_fail("create")
        if self.server.lease is not None:
            raise AlreadyExists("there is one", status=409)
        return self.server.write(obj)

    async def replace(self, resource: Resource, obj: JsonObject) -> JsonObject:
        self._may_fail("replace")
        live = self.server.lease
        if live is None or live["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            raise Conflict("has been modified", status=409)
        answer = self.server.write(obj)
        if self.server.lose_answer_of == self.who:
            self.server.lose_answer_of = None
            raise Unreachable("the answer is lost")
        return answer


class Replica:
    """A process with a candidate in it; `ended` says how it ended. Its wall clock may be wrong."""

    def __init__(self, server: Server, clock: Clock, name: str, skew: timedelta = timedelta()) -> None:
        self.lease = Lease(
            Api(server, name),
            LeaseSettings("somewhere", name),
            monotonic=lambda: clock.seconds,
            sleep=clock.sleep,
            utc_now=lambda: NOW + timedelta(seconds=clock.seconds) + skew,
            uniform=lambda _low, high: high,
        )
        self.led_since: float | None = None
        self.ended: BaseException | None = None
        self.clock = clock
        self.task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        try:
            await self.lease.acquire()
            self.led_since = self.clock.seconds
            await self.lease.keep()
        except (LeaseLost, StoreWentBack) as error:
            self.ended = error


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def at_most_one(*replicas: Replica) -> Callable[[], None]:
    def check() -> None:
        assert sum(replica.lease.held() for replica in replicas) <= 1

    return check


async def two(server: Server, clock: Clock, **skews: timedelta) -> tuple[Replica, Replica]:
    """A leader, and a standby that has seen it."""
    first = Replica(server, clock, "first", skews.get("first", timedelta()))
    await clock.run(0.1)
    second = Replica(server, clock, "second", skews.get("second", timedelta()))
    await clock.run(30, at_most_one(first, second))
    assert first.lease.held()
    assert not second.lease.held()
    return first, second


async def test_of_two_that_start_together_one_leads(server: Server, clock: Clock) -> None:
    both = Replica(server, clock, "first"), Replica(server, clock, "second")
    await clock.run(60, at_most_one(*both))
    assert sorted(replica.lease.held() for replica in both) == [False, True]
    assert server.lease is not None
    assert server.lease["spec"]["leaseDurationSeconds"] == 10
    assert server.lease["spec"]["leaseTransitions"] == 0


@pytest.mark.parametrize("minutes", [-5, 0, 5])
async def test_a_killed_leader_is_followed_within_15_seconds_whatever_the_clocks_say(
    server: Server, clock: Clock, minutes: int
) -> None:
    first, second = await two(server, clock, second=timedelta(minutes=minutes))
    first.task.cancel()
    killed_s = clock.seconds
    await clock.run(15)
    assert second.lease.held()
    assert second.led_since is not None
    # Never before the dead leader's last renewal has stood for the whole duration.
    assert killed_s + 8 <= second.led_since <= killed_s + 12.1
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 1


@pytest.mark.parametrize("minutes", [-5, 5])
async def test_a_wrong_clock_never_takes_a_living_leaders_lease(
    server: Server, clock: Clock, minutes: int
) -> None:
    first, second = await two(server, clock, first=timedelta(minutes=minutes))
    await clock.run(600, at_most_one(first, second))
    assert first.lease.held()


async def test_who_cannot_renew_stops_before_another_can_begin(server: Server, clock: Clock) -> None:
    first, second = await two(server, clock)
    server.fail = lambda who, _verb: Unreachable("cut off") if who == "first" else None
    cut_s, stopped_s = clock.seconds, []

    def check() -> None:
        at_most_one(first, second)()
        if not first.lease.held():
            stopped_s.append(clock.seconds)

    await clock.run(20, check)
    assert isinstance(first.ended, LeaseLost)
    assert second.led_since is not None
    assert stopped_s[0] <= cut_s + 7 < second.led_since
    assert second.led_since - stopped_s[0] >= 2.9  # what a write under way has left to arrive
    with pytest.raises(LeaseLost):
        first.lease.check()


async def test_an_api_server_that_is_away_for_less_than_the_deadline_costs_nothing(
    server: Server, clock: Clock
) -> None:
    first, second = await two(server, clock)
    server.fail = lambda _who, _verb: ServerError("500")
    await clock.run(4.5, at_most_one(first, second))
    server.fail = lambda _who, _verb: None
    await clock.run(30, at_most_one(first, second))
    assert first.lease.held()


async def test_an_api_server_that_is_away_for_long_ends_the_leader_and_the_standby_waits(
    server: Server, clock: Clock
) -> None:
    first, second = await two(server, clock)
    server.fail = lambda _who, _verb: Unreachable("nobody there")
    await clock.run(300, at_most_one(first, second))
    assert isinstance(first.ended, LeaseLost)
    server.fail = lambda _who, _verb: None
    await clock.run(13)
    assert second.lease.held()


async def test_a_renewal_whose_answer_was_lost_is_no_loss(server: Server, clock: Clock) -> None:
    first, second = await two(server, clock)
    server.lose_answer_of = "first"
    await clock.run(30, at_most_one(first, second))
    assert first.lease.held()
    assert first.ended is None


async def test_a_released_lease_is_taken_at_the_next_look(server: Server, clock: Clock) -> None:
    first, second = await two(server, clock)
    first.task.cancel()
    await first.lease.release()
    assert not first.lease.held()
    released_s = clock.seconds
    await clock.run(2.1)
    assert second.lease.held()
    assert second.led_since is not None
    assert second.led_since - released_s <= 2.0


async def test_a_renewal_that_was_cut_off_by_the_stop_does_not_keep_the_lease(
    server: Server, clock: Clock
) -> None:
    first, second = await two(server, clock)
    first.task.cancel()
    assert server.lease is not None
    server.write(server.lease)  # it arrived, and nobody waits for its answer any more
    await first.lease.release()
    await clock.run(2.1)
    assert second.lease.held()


async def test_a_release_leaves_the_lease_of_another_alone(server: Server, clock: Clock) -> None:
    first, _ = await two(server, clock)
    first.task.cancel()
    assert server.lease is not None
    server.lease["spec"]["holderIdentity"] = "a thief"
    server.write(server.lease)
    await first.lease.release()
    assert server.lease["spec"]["holderIdentity"] == "a thief"


async def test_a_lease_taken_by_force_ends_the_leader_at_its_next_renewal(
    server: Server, clock: Clock
) -> None:
    first, _ = await two(server, clock)
    assert server.lease is not None
    stolen: dict[str, Any] = copy.deepcopy(server.lease)
    stolen["spec"]["holderIdentity"] = "somebody else"
    server.write(stolen)
    await clock.run(2.1)
    assert isinstance(first.ended, LeaseLost)
    assert "held by somebody else" in str(first.ended)


async def test_a_server_that_hangs_counts_as_no_answer(server: Server) -> None:
    """On the real clock: a renewal is cut off at the deadline."""
    settings = LeaseSettings("somewhere", "first", duration_s=1, renew_deadline_s=0.2, retry_s=0.05)

    class Hanging(Api):
        async def replace(self, resource: Resource, obj: JsonObject) -> JsonObject:
            await asyncio.Event().wait()
            raise AssertionError

    lease = Lease(Hanging(server, "first"), settings)
    await lease.acquire()
    with pytest.raises(LeaseLost, match="not renewed"):
        await asyncio.wait_for(lease.keep(), 5)


@pytest.mark.parametrize("holder", ["first", "second", "somebody else"])
async def test_a_store_that_went_back_ends_both_before_either_writes_from_an_old_record(
    server: Server, clock: Clock, holder: str
) -> None:
    """etcd came back from a backup; whoever led then is named in the Lease, with a lower version."""
    first, second = await two(server, clock)
    assert server.lease is not None
    old: dict[str, Any] = copy.deepcopy(server.lease)
    old["spec"]["holderIdentity"] = holder
    server.version -= 10
    server.write(old)
    await clock.run(2.1, at_most_one(first, second))
    assert isinstance(first.ended, StoreWentBack)
    assert "the store of the API server went back" in str(first.ended)
    if second.ended is None:  # it looked after a renewal of the first had gone beyond what it knew
        assert second.led_since is None
