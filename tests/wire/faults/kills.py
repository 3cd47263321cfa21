"""F1 and F7 write by write: the operator is killed before or after each write, or told nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from builders.simulated_time import SimulatedLoop
from diffusion_operator.kube.resources import JsonObject
from unit.reconcile.worlds import demo
from wire.clusterapi import Asked, Fault
from wire.faults.outcome import Case, Outcome
from wire.operators import Scene, scene

NODES = (4, 4)
MOMENTS = ("before", "after")
Change = Callable[[Scene], None]


@dataclass(frozen=True)
class Flow:
    """From a state at rest, one change of the user's."""

    before: dict[str, Any] | None
    change: Change


def _submit(**spec: Any) -> Change:
    return lambda here: here.submit(demo(**spec))


FLOWS: dict[str, Flow] = {
    "create": Flow(None, _submit()),
    "change": Flow({}, _submit(gpus=2)),
    "change of two replicas": Flow({"replicas": 2}, _submit(gpus=2, replicas=2)),
    "scale up": Flow({}, _submit(replicas=3)),
    "scale down": Flow({"replicas": 3}, _submit()),
    "scale to zero": Flow({}, _submit(replicas=0)),
    "suspend": Flow({}, _submit(suspend=True)),
    "resume": Flow({"suspend": True}, _submit()),
    "refuse": Flow({}, _submit(gpus=64)),
    "delete": Flow({}, lambda here: here.delete()),
}


async def begun(here: Scene, flow: Flow) -> None:
    """At rest before the change."""
    here.start()
    if flow.before is not None:
        here.submit(demo(**flow.before))
    await here.rest()


async def undisturbed(loop: SimulatedLoop, flow: Flow) -> tuple[JsonObject, int]:
    """The end state, and how many writes lead to it."""
    async with scene(loop, *NODES) as here:
        await begun(here, flow)
        before = here.api.writes
        flow.change(here)
        await here.rest()
        here.check()
        return here.state(), here.api.writes - before


async def killed(
    loop: SimulatedLoop, flow: Flow, moment: str, number: int, expected: JsonObject, *, delete: bool = False
) -> float:
    """Killed at this write; a fresh process runs to rest. Returns the seconds that it needed."""
    async with scene(loop, *NODES) as here:
        await begun(here, flow)
        first, victim = here.api.writes + number, here.operator

        def strike(asked: Asked) -> Fault | None:
            if asked.number != first or asked.who != victim.name:
                return None
            if delete:
                here.delete()
            return Fault(kill=moment)

        here.api.fault = strike
        flow.change(here)
        while victim.alive:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)
        started_s = loop.time()
        here.start()
        ended_s = await here.rest()
        here.check()
        here.expect(expected, f"killed {moment} write {number}")
        return max(0.0, ended_s - started_s)


def kills(flow: Flow, *, delete: bool = False) -> Case:
    """Every write, before and after."""

    async def case(loop: SimulatedLoop) -> Outcome:
        expected, writes = await undisturbed(loop, flow)
        if delete:
            expected = {}
        took = [
            await killed(loop, flow, moment, number, expected, delete=delete)
            for number in range(1, writes + 1)
            for moment in MOMENTS
        ]
        return Outcome(max(took), len(took))

    return case


async def killed_while_deleting(loop: SimulatedLoop) -> Outcome:
    """Deletion is the garbage collector's: killed just before, just after, and away meanwhile."""
    for pause_s in (0.0, 0.04, 0.06, 0.3):
        async with scene(loop, *NODES) as here:
            await begun(here, FLOWS["delete"])
            here.delete()
            await asyncio.sleep(pause_s)
            here.operator.kill()
            here.start()
            await here.rest()
            here.check()
            here.expect({})
    return Outcome(0.0, 4)


def lost_answers(flow: Flow) -> Case:
    """F7: each write in turn happens and its answer is lost, once or on every retry of the client too."""

    async def case(loop: SimulatedLoop) -> Outcome:
        expected, writes = await undisturbed(loop, flow)
        took = [
            await answer_lost(loop, flow, number, times, expected)
            for number in range(1, writes + 1)
            for times in (1, 4)
        ]
        return Outcome(max(took, default=0.0), len(took))

    return case


async def answer_lost(
    loop: SimulatedLoop, flow: Flow, number: int, times: int, expected: JsonObject
) -> float:
    """The answers of this write and of its next repetitions are lost."""
    async with scene(loop, *NODES) as here:
        await begun(here, flow)
        first, struck = here.api.writes + number, []

        def strike(asked: Asked) -> Fault | None:
            if asked.number < first or len(struck) >= times or (struck and asked.path != struck[0]):
                return None
            struck.append(asked.path)
            return Fault(lost=True)

        here.api.fault = strike
        flow.change(here)
        started_s = loop.time()
        ended_s = await here.rest()
        here.check()
        assert len(struck) == times
        here.expect(expected, f"answer of write {number} lost {times} times")
        return ended_s - started_s
