"""No GPU is promised twice: hundreds of deployments, changed at once, on too few GPUs, operator killed."""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter
from collections.abc import Callable

from builders.simulated_time import SimulatedLoop
from diffusion_operator.api.names import LABEL_DEPLOYMENT
from diffusion_operator.kube.resources import DEPLOYMENTS, DIFFUSION_DEPLOYMENTS, PODS, JsonObject
from unit.reconcile.fakecluster import GPU, FakeCluster
from unit.reconcile.worlds import demo
from wire.clusterapi import Asked, Fault
from wire.faults.outcome import Case, Outcome
from wire.operators import Scene, scene

GPUS_PER_NODE = (8, 4, 2, 1)
SPREAD_S = 40.0
PATIENCE_S = 120.0
"""After the last change; longer than a pod may be without a place before its promise ends."""


class CrowdedCluster(FakeCluster):
    """The same rules, counted faster; the scheduler fills nodes up, as the ledger does."""

    _used: dict[str, int] | None = None

    def run_controllers(self) -> None:
        self._used = None
        deployments = [obj for key, obj in self.objects.items() if key[0] == DEPLOYMENTS.plural]
        before = [obj.get("status") for obj in deployments]
        super().run_controllers()
        for obj, status in zip(deployments, before, strict=True):
            if obj.get("status") != status:
                self.version += 1
                obj["metadata"]["resourceVersion"] = str(self.version)

    def submit(self, dd: JsonObject) -> JsonObject:
        before = copy.deepcopy(self.objects.get(self._key(DIFFUSION_DEPLOYMENTS, dd)))
        live = super().submit(dd)
        if before is not None:
            self._touch(live, before)
        return live

    def _version_what_changed(self) -> None:
        """Nothing else edits objects in place."""

    def _roll(self, deployment: JsonObject) -> None:
        self._used = None
        super()._roll(deployment)

    def _start(self, name: str, namespace: str, template: JsonObject, owner: list[JsonObject]) -> None:
        super()._start(name, namespace, template, owner)
        self._used = None

    def _nodes(self, selector: dict[str, str]) -> list[str]:
        return sorted(super()._nodes(selector), key=self._free)

    def _free(self, node: str) -> int:
        if self._used is None:
            self._used = {}
            for (plural, _, _), pod in self.objects.items():
                where = pod["spec"].get("nodeName") if plural == "pods" else None
                if where is not None:
                    gpus = int(pod["spec"]["containers"][0]["resources"]["limits"][GPU])
                    self._used[where] = self._used.get(where, 0) + gpus
        return int(self.objects["nodes", "", node]["status"]["allocatable"][GPU]) - self._used.get(node, 0)


class SpreadingCluster(CrowdedCluster):
    """Its scheduler takes the emptiest node, as a real one may: large pods find no place in what is left."""

    def __init__(self) -> None:
        super().__init__()
        self._homeless: dict[str, str | None] = {}

    def run_controllers(self) -> None:
        super().run_controllers()
        pending = {
            obj["metadata"]["name"]: obj
            for key, obj in self.objects.items()
            if key[0] == PODS.plural and "nodeName" not in obj["spec"]
        }
        self._homeless = {name: self._homeless.get(name, self.stamp) for name in pending}
        for name, pod in pending.items():
            said = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            pod["status"]["conditions"].append(said | {"lastTransitionTime": self._homeless[name]})

    def _nodes(self, selector: dict[str, str]) -> list[str]:
        return sorted(super()._nodes(selector), key=self._free, reverse=True)


def crowd(
    seed: int,
    deployments: int,
    gpus: int,
    kills: int,
    scheduler: Callable[[], CrowdedCluster] = CrowdedCluster,
) -> Case:
    """Everybody creates, changes and deletes; after every write all promises are added up."""

    async def case(loop: SimulatedLoop) -> Outcome:
        chance = random.Random(seed)
        nodes = GPUS_PER_NODE * (gpus // sum(GPUS_PER_NODE))
        async with scene(loop, *nodes, cluster=scheduler()) as here:
            checked = [0]

            def look() -> None:
                checked[0] += 1
                here.watch_promises()

            here.api.after_write = look
            here.api.controllers_every_s = 0.5
            here.start()
            await asyncio.sleep(1.0)
            here.api.fault = _faults(here, chance, kills, deployments * 10)
            names = [f"dd-{number}" for number in range(deployments)]
            await asyncio.gather(*(_life(here, random.Random(f"{seed} {name}"), name) for name in names))
            if not here.operator.alive:
                here.start()
            here.api.fault = lambda _asked: None
            acted_s = loop.time()
            ended_s = await here.rest()
            here.check()
            await asyncio.sleep(PATIENCE_S)
            assert _promised_without_a_place(here.cluster) == {}
            if scheduler is CrowdedCluster:  # it packs as the ledger does: every promise finds its place
                assert not _homeless(here.cluster)
            promised = sum(
                placement["replicas"] * placement["gpusPerReplica"]
                for (plural, _, _), obj in here.cluster.objects.items()
                if plural == DIFFUSION_DEPLOYMENTS.plural
                for placement in obj["status"].get("placements", ())
            )
            figures = {
                "gpus": sum(nodes),
                "gpusPromisedAtTheEnd": promised,
                "writesChecked": checked[0],
                "operatorsKilled": len(here.operators) - 1,
                "podsWithoutAPlace": sum(_homeless(here.cluster).values()),
            }
            return Outcome(max(0.0, ended_s - acted_s), 1, figures)

    return case


def _homeless(cluster: FakeCluster) -> Counter[str]:
    """Pods that no node has taken, by deployment."""
    return Counter(
        pod["metadata"]["labels"][LABEL_DEPLOYMENT]
        for (plural, _, _), pod in cluster.objects.items()
        if plural == PODS.plural and "nodeName" not in pod["spec"]
    )


def _promised_without_a_place(cluster: FakeCluster) -> dict[str, int]:
    """By deployment, replicas promised beyond bound pods: none, or a pod waits for what is promised to it."""
    bound: Counter[str] = Counter(
        pod["metadata"]["labels"][LABEL_DEPLOYMENT]
        for (plural, _, _), pod in cluster.objects.items()
        if plural == PODS.plural and "nodeName" in pod["spec"]
    )
    promised = {
        name: sum(placement["replicas"] for placement in obj["status"].get("placements", ()))
        for (plural, _, name), obj in cluster.objects.items()
        if plural == DIFFUSION_DEPLOYMENTS.plural
    }
    return {name: replicas - bound[name] for name, replicas in promised.items() if replicas > bound[name]}


def _faults(here: Scene, chance: random.Random, kills: int, writes: int) -> Callable[[Asked], Fault | None]:
    """Kills spread over the writes, and one in a hundred refused or its answer lost."""
    doomed = set(chance.sample(range(20, writes), kills))

    def strike(asked: Asked) -> Fault | None:
        if asked.number in doomed:
            here.loop.call_later(2.0, lambda: here.start() if not here.operator.alive else None)
            return Fault(kill=chance.choice(("before", "after")))
        if asked.is_write and chance.random() < 0.01:
            return chance.choice((Fault(status=500), Fault(status=409), Fault(lost=True)))
        return None

    return strike


async def _life(here: Scene, chance: random.Random, name: str) -> None:
    """Created, perhaps changed, perhaps deleted and made again."""
    await asyncio.sleep(chance.uniform(0.0, SPREAD_S))
    here.submit(_wish(chance, name))
    if chance.random() < 0.6:
        await asyncio.sleep(chance.uniform(0.0, SPREAD_S))
        here.submit(_wish(chance, name))
    if chance.random() < 0.3:
        await asyncio.sleep(chance.uniform(0.0, SPREAD_S))
        here.delete(name)
        if chance.random() < 0.7:
            await asyncio.sleep(chance.uniform(0.0, 1.0))
            here.submit(_wish(chance, name))


def _wish(chance: random.Random, name: str) -> JsonObject:
    return demo(name, gpus=chance.choice((1, 1, 1, 2, 2, 4)), replicas=chance.choice((0, 1, 1, 1, 2)))
