"""F10: a leader dies, freezes and thaws, two start at once, clocks are wrong. Only one ever writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from builders.simulated_time import SimulatedLoop
from diffusion_operator.kube.resources import PODS
from unit.reconcile.worlds import demo
from wire.clusterapi import Asked, Fault
from wire.faults.outcome import Case, Outcome
from wire.operators import Operator, Scene, scene

TAKEOVER_S = 15.0
SKEWS_S = (-300.0, 300.0)
Happening = Callable[[Scene, Operator], Awaitable[None]]


async def dies(here: Scene, leader: Operator) -> None:
    """kill -9, in the middle of work."""
    here.submit(demo("second"))
    await asyncio.sleep(0.06)
    leader.kill()


async def freezes_and_thaws(here: Scene, leader: Operator) -> None:
    """It stops for a minute with work in hand, and goes on as if nothing had been."""
    here.submit(demo("second"))
    leader.thawed.clear()
    await asyncio.sleep(60.0)
    leader.thawed.set()


async def freezes_in_a_write(here: Scene, leader: Operator) -> None:
    """It stops between two writes of one reconcile."""
    first = here.api.writes + 3

    def strike(asked: Asked) -> Fault | None:
        if asked.number == first:
            leader.thawed.clear()
        return None

    here.api.fault = strike
    here.submit(demo("second"))
    await asyncio.sleep(60.0)
    leader.thawed.set()


async def loses_sight_of_the_lease(here: Scene, leader: Operator) -> None:
    """Its renewals alone are refused for a minute, while its other writes would be served."""
    until_s = here.loop.time() + 60.0

    def strike(asked: Asked) -> Fault | None:
        refused = asked.who == leader.name and "/leases/" in asked.path and asked.at_s < until_s
        return Fault(status=503) if refused else None

    here.api.fault = strike
    for number in range(12):
        here.submit(demo("second", replicas=1 + number % 2))
        await asyncio.sleep(5.0)
    here.submit(demo("second"))


HAPPENINGS: dict[str, Happening] = {
    "dies": dies,
    "freezes for 60 s and thaws": freezes_and_thaws,
    "freezes between two writes and thaws": freezes_in_a_write,
    "cannot renew for 60 s": loses_sight_of_the_lease,
}


def leader(happening: str, skew_s: float = 0.0) -> Case:
    """Two replicas; something happens to the one that leads. `skew_s` is the standby's clock error."""

    async def case(loop: SimulatedLoop) -> Outcome:
        expected = await _undisturbed(loop)
        async with scene(loop, 4) as here:
            first = here.start(elects=True)
            await asyncio.sleep(1.0)
            second = here.start(elects=True, skew_s=skew_s)
            here.submit(demo())
            await here.rest()
            assert (first.led_s >= 0, second.led_s) == (True, -1.0)
            began_s = loop.time()
            await HAPPENINGS[happening](here, first)
            await here.rest()
            assert not first.alive
            assert first.ended == ("" if happening == "dies" else "LeaseLost")
            one_writer_at_a_time(here)
            took_s = second.led_s - began_s
            assert took_s <= TAKEOVER_S
            here.check()
            here.expect(expected)
            return Outcome(took_s)

    return case


def skewed(skew_s: float) -> Case:
    """Both lead in turn with wall clocks minutes apart: nothing flaps, nothing is judged too old."""

    async def case(loop: SimulatedLoop) -> Outcome:
        expected = await _undisturbed(loop)
        async with scene(loop, 4) as here:
            here.cluster.engines_ready = False  # loading, while clocks disagree on how long
            first = here.start(elects=True)
            await asyncio.sleep(1.0)
            here.start(elects=True, skew_s=skew_s)
            here.submit(demo())
            await asyncio.sleep(30.0)
            first.kill()
            here.submit(demo("second"))
            await asyncio.sleep(30.0)
            here.cluster.engines_ready = True
            for (plural, _, _), pod in here.cluster.objects.items():
                if plural == PODS.plural:
                    pod["status"]["conditions"][0]["status"] = "True"
            here.api.touch()
            ready_s = loop.time()
            ended_s = await here.rest()
            one_writer_at_a_time(here)
            here.check()
            here.expect(expected)
            return Outcome(max(0.0, ended_s - ready_s))

    return case


async def two_at_once(loop: SimulatedLoop) -> Outcome:
    """Both start in the same moment, ten times over."""
    for _ in range(10):
        async with scene(loop, 4) as here:
            both = [here.start(elects=True), here.start(elects=True)]
            here.submit(demo())
            await here.rest()
            assert sorted(one.led_s >= 0 for one in both) == [False, True]
            one_writer_at_a_time(here)
            here.check()
    return Outcome(0.0, 10)


async def _undisturbed(loop: SimulatedLoop) -> dict[str, object]:
    async with scene(loop, 4) as here:
        here.start()
        here.submit(demo())
        await here.rest()
        here.submit(demo("second"))
        await here.rest()
        return here.state()


def one_writer_at_a_time(here: Scene) -> None:
    """The fencing log: nobody writes after another has begun to."""
    writers = [one.who for one, code in here.api.asked if one.number and code == 200]
    assert writers
    turns = [who for index, who in enumerate(writers) if index == 0 or who != writers[index - 1]]
    assert len(turns) == len(set(turns)), f"writers took turns: {turns}"
