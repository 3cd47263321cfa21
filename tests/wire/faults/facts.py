"""F17: GPUs vanish and labels lie. Who serves is left alone; nobody new is promised what is not there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from builders.simulated_time import SimulatedLoop
from diffusion_operator.kube.resources import DEPLOYMENTS, NODES, JsonObject
from unit.reconcile.fakecluster import GPU
from unit.reconcile.worlds import demo
from wire.faults.outcome import Case, Outcome
from wire.operators import dd_status, scene, serving

Lie = Callable[[JsonObject], None]


def _gpus(count: int) -> Lie:
    def lie(node: JsonObject) -> None:
        node["status"]["allocatable"][GPU] = str(count)

    return lie


def _label(key: str, value: str | None) -> Lie:
    def lie(node: JsonObject) -> None:
        if value is None:
            node["metadata"]["labels"].pop(f"{GPU}.{key}", None)
        else:
            node["metadata"]["labels"][f"{GPU}.{key}"] = value

    return lie


def _both(*lies: Lie) -> Lie:
    def lie(node: JsonObject) -> None:
        for one in lies:
            one(node)

    return lie


# Its GPUs are then of an unknown product, another hardware group: the pod is replaced by one of that group,
# which serves before the old one goes.
MOVED = ("the product label is gone",)
# What befalls the only node (4 GPUs, one serving), and whether a newcomer of 2 GPUs may still have them.
LIES: dict[str, tuple[Lie, bool]] = {
    "two of three free GPUs vanish": (_gpus(2), False),
    "all GPUs vanish, the serving one too": (_gpus(0), False),
    "count label says 8, 2 are allocatable": (_both(_gpus(2), _label("count", "8")), False),
    "the count label is gone": (_label("count", None), True),
    "the product label is gone": (_label("product", None), True),
    "the memory label is gone": (_label("memory", None), True),
    "the memory label is no number": (_label("memory", "plenty"), True),
    "no GPU feature labels at all": (
        _both(_label("count", None), _label("product", None), _label("memory", None)),
        False,
    ),
    "the node is cordoned": (lambda node: node["spec"].update(unschedulable=True), False),
    "the node is not Ready": (lambda node: node["status"]["conditions"][0].update(status="False"), False),
}


def facts(what: str) -> Case:
    """The lie lasts five minutes, across a restart of the operator, then the truth comes back."""
    lie, enough = LIES[what]

    async def case(loop: SimulatedLoop) -> Outcome:
        async with scene(loop, 4) as here:
            await serving(here)
            here.api.after_write = lambda: None  # a promise stands on what vanished
            pods, own = here.pods(), here.cluster.get_now(DEPLOYMENTS, "demo-h200")["spec"]
            node = here.cluster.get_now(NODES, "node-1", "")
            labels, spec = dict(node["metadata"]["labels"]), dict(node["spec"])
            allocatable = dict(node["status"]["allocatable"])
            lie(node)
            here.api.touch()
            await asyncio.sleep(60.0)
            here.submit(demo("new", gpus=2))
            await asyncio.sleep(120.0)
            here.operator.kill()
            here.start()
            await asyncio.sleep(120.0)
            if what not in MOVED:
                assert pods <= here.pods(), "a serving pod was touched"
                assert here.cluster.get_now(DEPLOYMENTS, "demo-h200")["spec"] == own
            assert dd_status(here)["readyReplicas"] == 1
            ready = here.condition("Ready", "new")
            assert (ready["status"] == "True") == enough, ready
            promised = dd_status(here, "new").get("placements", [])
            assert bool(promised) == enough
            node["metadata"]["labels"], node["spec"] = labels, spec
            node["status"]["allocatable"] = allocatable
            node["status"]["conditions"][0]["status"] = "True"
            here.api.touch()
            back_s = loop.time()
            ended_s = await here.rest()
            assert here.condition("Ready", "new")["status"] == "True"
            assert here.condition("Ready")["status"] == "True"
            assert what in MOVED or pods <= here.pods(), "a serving pod was touched"
            here.check()
            return Outcome(max(0.0, ended_s - back_s))

    return case
