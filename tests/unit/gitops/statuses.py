"""DiffusionDeployments as the operator leaves them, one for each state that a GitOps tool must understand."""

from __future__ import annotations

import copy
import json
from collections.abc import Awaitable, Callable

from diffusion_operator.api.crd import crd
from diffusion_operator.kube.resources import CONFIG_MAPS, DIFFUSION_DEPLOYMENTS, PODS, JsonObject
from unit.reconcile.test_fetch_progress import fetching
from unit.reconcile.test_out_of_memory_steps_down import end
from unit.reconcile.test_out_of_memory_steps_down import serving as large_serving
from unit.reconcile.test_rollout_goes_back import changed_to_a_plan_that_fails
from unit.reconcile.test_waits_for_new_nodes import waiting
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


async def went_back() -> JsonObject:
    """The last spec's plan never became ready; the one before it serves."""
    made, _, _ = await changed_to_a_plan_that_fails()
    made.seconds += 301
    await made.settle()
    return live(made)


async def on_a_fallback() -> JsonObject:
    """The engine itself went on with a fallback."""
    made = await large_serving()
    plan = made.status()["plan"]["hash"]
    document = made.cluster.get_now(CONFIG_MAPS, f"demo-h200-{plan}")["data"]["plan.json"]
    (pod,) = made.cluster.names(PODS)
    made.cluster.executing[pod] = json.loads(document)["fallbacks"][0]["hash"]
    await made.settle()
    return live(made)


async def downgraded() -> JsonObject:
    """The operator made a fallback the plan."""
    made = await large_serving()
    end(made, "CudaOutOfMemory")
    await made.settle()
    return live(made)


async def fetching_the_model() -> JsonObject:
    made = await fetching()
    await made.reconcile()
    return live(made)


async def waiting_for_nodes() -> JsonObject:
    return live(await waiting())


async def waited_for_nodes_in_vain() -> JsonObject:
    made = await waiting()
    made.seconds += 15 * 60 + 1
    await made.reconcile()
    return live(made)


async def no_replicas() -> JsonObject:
    made = world(8)
    made.cluster.submit(demo(replicas=0))
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


async def not_seen() -> JsonObject:
    """As the API server fills in the definition's defaults."""
    made = world(8)
    made.cluster.submit(demo())
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return live(made) | {"status": schema["properties"]["status"]["default"]}


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
        went_back,
        on_a_fallback,
        downgraded,
        fetching_the_model,
        waiting_for_nodes,
        waited_for_nodes_in_vain,
        no_replicas,
        suspended,
        not_seen,
        changed_and_not_yet_seen,
        being_deleted,
    )
}
