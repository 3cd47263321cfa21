"""F2, F3 and F4: what is read is old, events are lost, or a watch says nothing any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from builders.simulated_time import SimulatedLoop
from diffusion_operator.kube.resources import (
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    NODES,
    PODS,
    SERVICES,
    WATCHED,
    JsonObject,
    Resource,
)
from unit.reconcile.worlds import demo
from wire.faults.outcome import Case, Outcome
from wire.operators import Scene, expect_same, in_use, scene, serving

STALE_S = 30.0
SHARES = (0.01, 0.05, 0.2)
RESYNC_S = 660.0
NOTICED_S = 90.0

# Before the snapshot, and what happened after it, which a fresh operator does not see at first.
STALE: dict[str, tuple[dict[str, Any], Callable[[Scene], None]]] = {
    "scaled up": ({}, lambda here: here.submit(demo(replicas=3))),
    "scaled down": ({"replicas": 3}, lambda here: here.submit(demo())),
    "changed": ({}, lambda here: here.submit(demo(gpus=2))),
    "suspended": ({}, lambda here: here.submit(demo(suspend=True))),
    "resumed": ({"suspend": True}, lambda here: here.submit(demo())),
    "deleted": ({}, lambda here: here.delete()),
}


def stale(what: str) -> Case:
    """F2: the operator starts against lists from before the last change."""
    before, change = STALE[what]

    async def case(loop: SimulatedLoop) -> Outcome:
        async with scene(loop, 4) as here:
            here.start()
            here.submit(demo(**before))
            await here.rest()
            snapshot, version = here.api.snapshot()
            change(here)
            await here.rest()
            expected, pods = here.state(), here.pods()
            here.operator.kill()
            here.api.go_stale(snapshot, version)
            written = here.api.writes
            here.start()
            await asyncio.sleep(STALE_S)
            assert pods <= here.pods(), "a serving pod was deleted from old knowledge"
            refused = here.api.writes - written
            here.api.be_fresh()
            fresh_s = loop.time()
            ended_s = await here.rest()
            here.check()
            here.expect(expected)
            assert pods <= here.pods()
            return Outcome(max(0.0, ended_s - fresh_s), 1, {"writesWhileStale": refused})

    return case


async def busy(
    loop: SimulatedLoop, share: float, seed: int, deployments: int, changes: int
) -> tuple[JsonObject, float]:
    """Minutes with so many deployments and changes while this share of all watch events is lost."""
    chance, lost = random.Random(seed), random.Random(seed + 1)
    async with scene(loop, *([8] * 6)) as here:
        here.start()
        here.api.hear = lambda _resource, _event: lost.random() >= share
        for number in range(deployments):
            here.submit(demo(f"dd-{number}"))
            await asyncio.sleep(5.0)
        for _ in range(changes):
            name = f"dd-{chance.randrange(deployments - 2)}"
            here.submit(demo(name, gpus=chance.choice((1, 2)), replicas=chance.randrange(4)))
            await asyncio.sleep(chance.uniform(1.0, 60.0))
        here.delete(f"dd-{deployments - 2}")
        made_s = loop.time()
        here.submit(demo(f"dd-{deployments - 1}", replicas=2))
        # No more losses, but longer than a resync: what a lost event hid looks like rest before.
        here.api.hear = lambda _resource, _event: True
        await asyncio.sleep(RESYNC_S)
        ended_s = await here.rest()
        here.check()
        return in_use(here.state()), max(0.0, ended_s - made_s)


def lost_events(share: float, seed: int, deployments: int = 8, changes: int = 16) -> Case:
    """F3: one share, one seed, against the same minutes without loss."""

    async def case(loop: SimulatedLoop) -> Outcome:
        expected, _ = await busy(loop, 0.0, seed, deployments, changes)
        found, seconds = await busy(loop, share, seed, deployments, changes)
        expect_same(found, expected)
        assert seconds <= RESYNC_S + 5.0
        return Outcome(seconds)

    return case


def _by_hand(resource: Resource) -> Callable[[Scene], None]:
    def change(here: Scene) -> None:
        name = here.cluster.names(resource)[0]
        if resource is NODES:
            here.cluster.set_gpus(name, 4)
        elif resource is DIFFUSION_DEPLOYMENTS:
            here.submit(demo("new"))
        elif resource is SERVICES:
            del here.cluster.objects[resource.plural, "team", name]
            here.cluster.version += 1
        elif resource is DEPLOYMENTS:
            here.cluster.get_now(resource, name)["spec"]["replicas"] = 0
        here.api.touch()

    return change


SILENT = (DIFFUSION_DEPLOYMENTS, NODES, DEPLOYMENTS, SERVICES)


def silent(resource: Resource) -> Case:
    """F4: the watch of one collection stays open and says nothing; what happens there is noticed in 90 s."""

    async def case(loop: SimulatedLoop) -> Outcome:
        async with scene(loop, 2) as here:
            await serving(here)
            if resource is NODES:
                here.submit(demo("new", gpus=2))  # waits: one GPU is left
                await here.rest()
            before = here.state()
            here.operator.deaf.add(resource)
            await asyncio.sleep(1.0)
            began_s, written = loop.time(), here.api.writes
            _by_hand(resource)(here)
            while here.api.writes == written and loop.time() - began_s < NOTICED_S:  # noqa: ASYNC110
                await asyncio.sleep(0.5)
            noticed_s = loop.time() - began_s
            assert here.api.writes > written, f"nothing was done for {NOTICED_S:.0f} s"
            await here.rest(quiet_s=2 * NOTICED_S)
            here.check()
            if resource in (DEPLOYMENTS, SERVICES):
                here.expect(before)
            else:
                assert here.condition("Ready", "new")["status"] == "True"
            return Outcome(noticed_s)

    return case


async def all_silent(loop: SimulatedLoop) -> Outcome:
    """F4: every watch falls silent at once, and pods come and go."""
    async with scene(loop, 4) as here:
        await serving(here)
        here.operator.deaf |= set(WATCHED)
        await asyncio.sleep(1.0)
        began_s = loop.time()
        here.submit(demo(replicas=3))
        here.submit(demo("new"))
        ended_s = await here.rest(quiet_s=2 * NOTICED_S)
        assert len(here.cluster.names(PODS)) == 4
        assert here.condition("Ready", "new")["status"] == "True", here.condition("Ready", "new")
        here.check()
        # The wishes, then the pods of the first one, then those of the second: each is seen by a list.
        assert ended_s - began_s <= 3 * NOTICED_S, f"{ended_s - began_s:.0f} s"
        return Outcome(ended_s - began_s)
