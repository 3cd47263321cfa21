"""DiffusionDeployments as the operator leaves them, one for each state that a GitOps tool must understand."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable

from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS, JsonObject
from unit.reconcile.worlds import World, demo, world


async def ready() -> JsonObject:
    made = world(8)
    made.cluster.submit(demo())
    await made.settle()
    return live(made)


async def starting() -> JsonObject:
    made = world(8)
    made.cluster.engines_ready = False
    made.cluster.submit(demo())
    await made.settle()
    return live(made)


async def waiting_for_gpus() -> JsonObject:
    made = world(8)
    made.cluster.submit(demo("other", gpus=8))
    await made.settle("other")
    made.cluster.submit(demo(gpus=4))
    await made.settle("other", "demo")
    return live(made)


async def some_replicas_wait() -> JsonObject:
    made = world(2)
    made.cluster.submit(demo(gpus=1, replicas=4))
    await made.settle()
    return live(made)


async def stalled() -> JsonObject:
    made = world(2)
    made.cluster.submit(demo(gpus=8))
    await made.settle()
    return live(made)


async def suspended() -> JsonObject:
    made = world(8)
    made.cluster.submit(demo(suspend=True))
    await made.settle()
    return live(made)


async def changed_and_not_yet_seen() -> JsonObject:
    made = world(8)
    made.cluster.submit(demo())
    await made.settle()
    made.cluster.submit(demo(gpus=2))
    return live(made)


async def being_deleted() -> JsonObject:
    found = await ready()
    found["metadata"]["deletionTimestamp"] = "2026-11-25T00:00:00Z"
    return found


def live(made: World) -> JsonObject:
    """The object as the API server would give it."""
    return copy.deepcopy(made.cluster.get_now(DIFFUSION_DEPLOYMENTS, "demo"))


STATES: dict[str, Callable[[], Awaitable[JsonObject]]] = {
    made.__name__: made
    for made in (
        ready,
        starting,
        waiting_for_gpus,
        some_replicas_wait,
        stalled,
        suspended,
        changed_and_not_yet_seen,
        being_deleted,
    )
}
