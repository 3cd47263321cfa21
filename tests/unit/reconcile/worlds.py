"""One cluster in memory with the operator's reconciler on it, driven step by step."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS, JsonObject
from diffusion_operator.placement.groups import Terms
from diffusion_operator.reconcile.keys import DeploymentKey
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.story import Outcome, Reconciler
from diffusion_operator.render.settings import RenderSettings
from unit.reconcile.fakecluster import FakeCluster
from unit.reconcile.plans import NOW

QUOTA = "requests.nvidia.com/gpu"
SETTINGS = RenderSettings(engine_image="engine:test")


def demo(name: str = "demo", *, gpus: int = 1, **spec: Any) -> JsonObject:
    """A DiffusionDeployment of the built-in model with a fixed number of GPUs per replica."""
    return {
        "metadata": {"name": name, "namespace": "team"},
        "spec": {
            "model": {"source": {"builtIn": {"name": "demo"}}},
            "performance": {"device": "cpu"},
            "parallelism": {"gpusPerReplica": gpus},
            **spec,
        },
    }


@dataclass
class World:
    """`now` is simulated; nothing sleeps."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    seconds: float = 0.0
    image: str = SETTINGS.engine_image
    terms: Terms = field(default_factory=Terms)

    def __post_init__(self) -> None:
        self.restart_operator()

    def restart_operator(self, image: str | None = None, terms: Terms | None = None) -> None:
        """A fresh process: nothing is remembered. It may come with another engine image or other pools."""
        self.image = image or self.image
        self.terms = terms or self.terms
        self.mirror = Mirror()
        self.reconciler = Reconciler(
            self.cluster,
            self.mirror,
            self.cluster,
            RenderSettings(engine_image=self.image),
            terms=self.terms,
            now=lambda: self.now,
        )

    @property
    def now(self) -> datetime:
        """The simulated time."""
        return NOW + timedelta(seconds=self.seconds)

    def stamp(self, ago_s: float = 0.0) -> str:
        """The time so many seconds ago, as the API server writes it."""
        return (self.now - timedelta(seconds=ago_s)).isoformat().replace("+00:00", "Z")

    def unschedulable(self, ago_s: float = 0.0) -> JsonObject:
        """The condition of a pod for which the scheduler has found no node since then."""
        return {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "lastTransitionTime": self.stamp(ago_s),
        }

    def limit_gpus(self, gpus: int, used: int) -> None:
        """An administrator sets the quota of the namespace; the API server counts what is used."""
        self.cluster.version += 1
        self.cluster.objects["resourcequotas", "team", "team"] = {
            "metadata": {
                "name": "team",
                "namespace": "team",
                "uid": "quota",
                "resourceVersion": str(self.cluster.version),
            },
            "spec": {"hard": {QUOTA: str(gpus)}},
            "status": {"used": {QUOTA: str(used)}},
        }

    async def reconcile(self, name: str = "demo") -> Outcome:
        """One pass for one object, with a mirror that has seen everything."""
        await self.mirror.refresh(self.cluster)
        outcome = await self.reconciler.reconcile(DeploymentKey("team", name))
        await self.reconciler.events.flush()
        return outcome

    async def settle(self, *names: str) -> None:
        """Reconcile and let controllers run until a whole round writes nothing."""
        self.cluster.stamp = self.stamp()
        for _ in range(12):
            written = len(self.cluster.writes)
            before = copy.deepcopy(self.cluster.objects)
            for name in names or ("demo",):
                await self.reconcile(name)
                self.cluster.run_controllers()
            if len(self.cluster.writes) == written and self.cluster.objects == before:
                return
        raise AssertionError(f"no rest after 12 rounds; last writes: {self.cluster.writes[-10:]}")

    def status(self, name: str = "demo") -> JsonObject:
        """The live status."""
        return dict(self.cluster.get_now(DIFFUSION_DEPLOYMENTS, name)["status"])

    def condition(self, kind: str, name: str = "demo") -> JsonObject:
        """One live condition."""
        return next(dict(c) for c in self.status(name)["conditions"] if c["type"] == kind)

    def writes_since(self, count: int) -> list[tuple[str, str, str]]:
        """Writes after the first `count`."""
        return self.cluster.writes[count:]


def world(*gpus_per_node: int) -> World:
    """A world with these nodes."""
    made = World()
    for number, gpus in enumerate(gpus_per_node, 1):
        made.cluster.add_node(f"node-{number}", gpus)
    return made
