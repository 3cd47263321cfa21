"""F20: deleted and made again at once, a namespace that goes away under the operator, a spec that flaps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from builders.simulated_time import SimulatedLoop
from diffusion_operator.kube.resources import DEPLOYMENTS, DIFFUSION_DEPLOYMENTS
from unit.reconcile.worlds import demo
from wire.clusterapi import Asked
from wire.faults.outcome import Case, Outcome
from wire.operators import Scene, expect_same, scene, serving

FLIPS, FLIPPING_S = 100, 10.0
MOST_ROLLOUTS = 2


def made_again(pause_s: float, *, garbage_s: float, restart: bool) -> Case:
    """The successor has another uid and another spec; the predecessor's children are collected later."""

    async def case(loop: SimulatedLoop) -> Outcome:
        async with scene(loop, 4) as here:
            here.start()
            here.submit(demo(gpus=2))
            await here.rest()
            expected = here.state()
        async with scene(loop, 4) as here:
            await serving(here)
            old = here.cluster.get_now(DIFFUSION_DEPLOYMENTS, "demo")["metadata"]["uid"]
            collect, here.cluster.collect_garbage = here.cluster.collect_garbage, lambda: None  # type: ignore[method-assign]
            here.delete()
            await asyncio.sleep(pause_s)
            here.submit(demo(gpus=2))
            if restart:
                here.operator.kill()
                here.start()
            made_s = loop.time()
            await asyncio.sleep(garbage_s)
            here.cluster.collect_garbage = collect  # type: ignore[method-assign]
            here.api.touch()
            ended_s = await here.rest()
            new = here.cluster.get_now(DIFFUSION_DEPLOYMENTS, "demo")["metadata"]["uid"]
            assert new != old
            here.check()
            here.expect(expected)
            return Outcome(ended_s - made_s)

    return case


def namespace_deleted(after_writes: int, *, children_first: bool) -> Case:
    """The namespace terminates in the middle of a reconcile; its objects go one by one."""

    async def case(loop: SimulatedLoop) -> Outcome:
        async with scene(loop, 4) as here:
            here.start()
            await asyncio.sleep(1.0)
            first = here.api.writes + after_writes
            done = asyncio.Event()

            def strike(asked: object) -> None:
                if here.api.writes >= first and not done.is_set():
                    here.api.terminating.add("team")
                    done.set()

            here.api.fault = strike  # type: ignore[assignment]
            here.submit(demo())
            await asyncio.wait_for(done.wait(), 60.0)
            order = sorted(
                (key for key in here.cluster.objects if key[1] == "team"),
                key=lambda key: (key[0] == DIFFUSION_DEPLOYMENTS.plural) == children_first,
            )
            for key in order:
                await asyncio.sleep(0.5)
                if here.cluster.objects.pop(key, None) is not None:
                    here.cluster.version += 1
                here.api.touch()
            while left := [key for key in here.cluster.objects if key[1] == "team"]:
                await asyncio.sleep(0.5)
                del here.cluster.objects[left[0]]
                here.cluster.version += 1
                here.api.touch()
            gone_s = loop.time()
            written = here.api.writes
            await here.rest()
            here.expect({})
            here.check()
            return Outcome(
                max(0.0, here.api.written_s - gone_s), 1, {"writesAfter": here.api.writes - written}
            )

    return case


def flapping(what: str) -> Case:
    """100 changes in 10 s between two wishes; the last one holds."""
    wishes = {"replicas": ({"replicas": 1}, {"replicas": 3}), "plan": ({"gpus": 1}, {"gpus": 2})}[what]

    async def case(loop: SimulatedLoop) -> Outcome:
        async with scene(loop, 4) as here:
            here.start()
            here.submit(demo(**wishes[1]))
            await here.rest()
            expected = _serving_state(here)
        async with scene(loop, 4) as here:
            await serving(here)
            before, asked = here.api.writes, len(here.api.asked)
            for number in range(FLIPS):
                here.submit(demo(**wishes[(number + 1) % 2]))
                await asyncio.sleep(FLIPPING_S / FLIPS)
            here.submit(demo(**wishes[1]))
            flapped_s = loop.time()
            ended_s = await here.rest()
            here.check()
            expect_same(_serving_state(here), expected)
            rollouts = _rollouts(here, here.api.asked[asked:])
            assert rollouts <= MOST_ROLLOUTS, f"{rollouts} roll-outs"
            figures = {"writes": here.api.writes - before, "rollouts": rollouts}
            return Outcome(max(0.0, ended_s - flapped_s), 1, figures)

    return case


def _rollouts(here: Scene, asked: Sequence[tuple[Asked, int]]) -> int:
    """How often a Deployment was written."""
    return sum(
        one.is_write and one.path.rsplit("/", 2)[1] == DEPLOYMENTS.plural and code == 200
        for one, code in asked
    )


def _serving_state(here: Scene) -> dict[str, object]:
    """Without the plans that ReplicaSets of the flapping still name."""
    state = here.state()
    dd = state["diffusiondeployments/team/demo"]
    return {
        "deployments": {name: one for name, one in state.items() if name.startswith(DEPLOYMENTS.plural)},
        "plan": dd["status"]["plan"],
        "conditions": dd["status"]["conditions"],
        "placements": dd["status"]["placements"],
    }
