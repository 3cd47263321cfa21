"""Deployments that are made, changed and deleted all at once, on KWOK nodes that are too few for them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from builders.whole_pods import SIZES
from cluster.watching import await_state
from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS, JsonObject
from localcluster.gpunodes import FAKE_TAINT, H200, fake_node
from localcluster.kindcluster import Cluster

POOL = {"pool": "promises"}
SELECTOR = "pool=promises"
TAINT = {"key": "promises", "value": "only", "effect": "NoSchedule"}
TOLERATIONS = [{"key": key, "operator": "Exists"} for key in (FAKE_TAINT, TAINT["key"])]
LONGEST_PAUSE_S = 60.0


def sizes_for(gpus: int) -> dict[int, int]:
    """As many nodes of each size, with so many GPUs in all."""
    assert gpus % sum(SIZES) == 0, f"{gpus} GPUs are no multiple of {sum(SIZES)}"
    return dict.fromkeys(SIZES, gpus // sum(SIZES))


def nodes_of(sizes: dict[int, int]) -> list[JsonObject]:
    """KWOK nodes that only this crowd uses."""
    made = []
    for size, count in sizes.items():
        for number in range(count):
            node = fake_node(f"promises-{size}-{number:02}", H200, size)
            node["metadata"]["labels"] |= POOL
            node["spec"]["taints"].append(TAINT)
            made.append(node)
    return made


@contextmanager
def live_nodes(cluster: Cluster, namespace: str, sizes: dict[int, int]) -> Iterator[None]:
    """They are Ready; afterwards the namespace has no pods and they are gone."""
    try:
        cluster.apply(*nodes_of(sizes))
        cluster.kubectl("wait", "--for=condition=Ready", "nodes", "-l", SELECTOR, "--timeout=90s")
        yield
    finally:
        cluster.kubectl("-n", namespace, "delete", "dd", "--all", "--wait=false")
        await_state(cluster, namespace, "pods", lambda state: not state, "no pod left", deadline_seconds=300)
        cluster.kubectl("delete", "nodes", "-l", SELECTOR, "--wait=false")


@dataclass
class Crowd:
    """Its members act until `seconds` are over; `done` counts what they did."""

    client: KubeClient
    namespace: str
    seed: int
    seconds: float
    done: Counter[str] = field(default_factory=Counter)

    async def live(self, deployments: int) -> None:
        """All of them at once."""
        end_s = asyncio.get_running_loop().time() + self.seconds
        async with asyncio.TaskGroup() as group:
            for number in range(deployments):
                group.create_task(self._live(f"dd-{number:03}", end_s))

    async def _live(self, name: str, end_s: float) -> None:
        chance, time_s = random.Random(f"{self.seed} {name}"), asyncio.get_running_loop().time
        wish = self._wish(chance, name)
        await asyncio.sleep(chance.uniform(0.0, LONGEST_PAUSE_S / 2))
        uid = await self._apply("created", wish)
        while time_s() + (pause_s := chance.uniform(0.0, LONGEST_PAUSE_S)) < end_s:
            await asyncio.sleep(pause_s)
            deed = chance.random()
            if deed < 0.4:
                wish["spec"]["replicas"] = self._replicas(chance)
                await self._apply("scaled", wish)
            elif deed < 0.75:
                wish = self._wish(chance, name)
                await self._apply("changed", wish)
            else:
                await self.client.delete(DIFFUSION_DEPLOYMENTS, name, self.namespace, uid=uid)
                self.done["deleted"] += 1
                await asyncio.sleep(chance.choice((0.0, 1.0, 10.0)))
                wish = self._wish(chance, name)
                uid = await self._apply("created", wish)

    async def _apply(self, deed: str, wish: JsonObject) -> str:
        found = await self.client.apply(wish)
        self.done[deed] += 1
        return str(found["metadata"]["uid"])

    @staticmethod
    def _replicas(chance: random.Random) -> int:
        return chance.choice((0, 1, 1, 1, 2, 3))

    def _wish(self, chance: random.Random, name: str) -> JsonObject:
        """On average more than the nodes have for each of them."""
        return {
            "apiVersion": "diffusion-operator.io/v1alpha1",
            "kind": "DiffusionDeployment",
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": {
                "model": {"source": {"builtIn": {"name": "demo"}}},
                "performance": {"device": "cpu"},
                "parallelism": {"gpusPerReplica": chance.choice((1, 1, 1, 2, 2, 4, 8))},
                "replicas": self._replicas(chance),
                "hardware": {"nodeSelector": POOL, "tolerations": TOLERATIONS},
            },
        }
