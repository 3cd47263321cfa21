"""F6 and F7 by storm: for 60 s a share of all requests is refused, slow, or done with the answer lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from builders.simulated_time import SimulatedLoop
from diffusion_operator.kube.resources import JsonObject
from unit.reconcile.worlds import demo
from wire.clusterapi import Asked, Fault
from wire.faults.outcome import Case, Outcome
from wire.operators import Scene, expect_same, in_use, scene

NODES = (8, 8)
FAULT_S = 60.0
RETRY_AFTER_S = 3
LONGEST_BACKOFF_S = 150.0
TIMES_UNDISTURBED = 2.0
KINDS: dict[str, Fault] = {
    "409": Fault(status=409),
    "429": Fault(status=429, retry_after_s=RETRY_AFTER_S),
    "500": Fault(status=500),
    "503": Fault(status=503),
    "504": Fault(status=504),
    "slow": Fault(delay_s=5.0),
    "answer lost": Fault(lost=True),
}
SHARES = (0.1, 0.5, 1.0)


async def a_minute_of_work(here: Scene) -> None:
    """Created, changed, scaled and deleted in 60 s, with a restart of the operator in the middle."""
    for name in ("one", "two", "three"):
        here.submit(demo(name))
    await asyncio.sleep(15.0)
    here.submit(demo("two", gpus=2))
    await asyncio.sleep(15.0)
    here.operator.kill()
    here.start()
    here.submit(demo("one", replicas=2))
    await asyncio.sleep(15.0)
    here.delete("three")
    await asyncio.sleep(15.0)


async def worked(loop: SimulatedLoop, fault: Fault | None, share: float) -> tuple[JsonObject, Outcome, float]:
    """The same minute with this fault: the end state, what is told, and seconds from start to rest."""
    chance = random.Random(1)
    async with scene(loop, *NODES) as here:
        here.start()
        here.submit(demo("serves"))
        await here.rest()
        pods = {key for key in here.cluster.objects if key[0] == "pods"}
        began_s, before = loop.time(), len(here.api.asked)
        until_s = began_s + FAULT_S

        def strike(asked: Asked) -> Fault | None:
            return fault if asked.at_s < until_s and chance.random() < share else None

        here.api.fault = strike
        await a_minute_of_work(here)
        # The longest back-off that a minute of failures can lead to is rest, too.
        ended_s = await here.rest(quiet_s=LONGEST_BACKOFF_S)
        here.check()
        assert pods <= here.cluster.objects.keys(), "a serving pod was touched"
        asked = here.api.asked[before:]
        if fault is not None and fault.retry_after_s is not None:
            _retry_after_is_kept(asked)
        seconds = Counter(int(one.at_s) for one, _ in asked)
        figures = {"peakRequestsPerSecond": max(seconds.values()), "requests": len(asked)}
        return in_use(here.state()), Outcome(max(0.0, ended_s - until_s), 1, figures), ended_s - began_s


def _retry_after_is_kept(asked: list[tuple[Asked, int]]) -> None:
    refused_s: dict[tuple[str, str, str], float] = {}
    for one, code in asked:
        key = (one.who, one.method, one.path)
        if one.method == "POST":
            continue  # what is posted at once shares a path; which of them came back cannot be told
        if one.is_write and key in refused_s:
            assert one.at_s - refused_s[key] >= RETRY_AFTER_S - 0.01, f"{key} came back too soon"
        if code == 429:
            refused_s[key] = one.at_s
        else:
            refused_s.pop(key, None)


def storm(kind: str, share: float) -> Case:
    """One fault at one share."""

    async def case(loop: SimulatedLoop) -> Outcome:
        expected, _, undisturbed_s = await worked(loop, None, 0.0)
        found, outcome, disturbed_s = await worked(loop, KINDS[kind], share)
        expect_same(found, expected)
        longest_s = TIMES_UNDISTURBED * undisturbed_s + FAULT_S
        assert disturbed_s <= longest_s, f"at rest after {disturbed_s:.0f} s, more than {longest_s:.0f} s"
        return outcome

    return case
