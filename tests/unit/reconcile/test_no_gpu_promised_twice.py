"""Many deployments decided at once on few GPUs, with late events and lost answers: no GPU is promised twice.

The oracle looks at every write: the replicas that all statuses promise together must fit on the nodes, as
whole pods.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter
from typing import Any

import pytest

from diffusion_operator.inventory.claims import pack
from diffusion_operator.inventory.ledger_build import build_ledger, with_foreign, with_owners
from diffusion_operator.inventory.objects import ManagedDeployment, Node, Pod
from diffusion_operator.kube.errors import ApiError, ServerError, Unreachable
from diffusion_operator.kube.resources import DEPLOYMENTS, DIFFUSION_DEPLOYMENTS, JsonObject
from diffusion_operator.reconcile.keys import DeploymentKey
from unit.reconcile.fakecluster import GPU, FakeCluster
from unit.reconcile.worlds import World, demo

SEEDS = int(os.environ.get("DIFFUSION_PROMISE_SEEDS", "3"))


class Slow(FakeCluster):
    """Answers after others had their turn; some writes fail, before or after they happened."""

    chance: random.Random
    failing: float = 0.0
    broken: list[str]

    def _nodes(self, selector: dict[str, str]) -> list[str]:
        """The scheduler fills nodes up, as the ledger does; what one that spreads does needs a new plan."""
        return sorted(super()._nodes(selector), key=self._free)

    async def _turns(self) -> None:
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    async def apply(self, manifest: JsonObject, *, force: bool = True) -> JsonObject:
        await self._turns()
        if self.chance.random() < self.failing:
            raise ServerError("500", status=500)
        answer = await super().apply(manifest, force=force)
        self.look()
        await self._turns()
        if self.chance.random() < self.failing:
            raise Unreachable("the answer is lost")
        return answer

    async def apply_status(self, manifest: JsonObject) -> JsonObject:
        await self._turns()
        if self.chance.random() < self.failing:
            raise ServerError("500", status=500)
        answer = await super().apply_status(manifest)
        self.look()
        return answer

    def look(self) -> None:
        """Write down every moment at which the promises do not fit."""
        promised = [
            (placement["gpusPerReplica"], placement["replicas"])
            for (plural, _, _), obj in self.objects.items()
            if plural == DIFFUSION_DEPLOYMENTS.plural
            for placement in obj.get("status", {}).get("placements", ())
        ]
        if not self._fits(promised):
            self.broken.append(f"statuses promise {promised}")

    def _fits(self, pods: list[tuple[int, int]]) -> bool:
        free = {name: self._gpus(name) for plural, _, name in self.objects if plural == "nodes"}
        for gpus, replicas in sorted(pods, reverse=True):
            places = Counter(pack(free, gpus, replicas))
            if places.total() < replicas:
                return False
            free = {name: amount - gpus * places[name] for name, amount in free.items()}
        return True

    def _gpus(self, node: str) -> int:
        return int(self.objects["nodes", "", node]["status"]["allocatable"][GPU])


def crowd(seed: int, *nodes: int) -> World:
    cluster = Slow()
    cluster.chance, cluster.broken = random.Random(seed), []
    made = World(cluster)
    for number, gpus in enumerate(nodes):
        cluster.add_node(f"node-{number}", gpus)
    return made


async def attempt(made: World, name: str) -> None:
    with contextlib.suppress(ApiError):  # the queue would come back to it
        await made.reconciler.reconcile(DeploymentKey("team", name))


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_created_changed_and_deleted_at_once_with_failures_and_restarts(seed: int) -> None:
    made = crowd(seed, 8, 4, 2, 1)
    cluster: Any = made.cluster
    chance = cluster.chance
    names = [f"dd-{number}" for number in range(10)]
    for round_number in range(6):
        for name in names:
            key = (DIFFUSION_DEPLOYMENTS.plural, "team", name)
            if key in cluster.objects and chance.random() < 0.15:
                cluster.remove(DIFFUSION_DEPLOYMENTS, name)
            elif key not in cluster.objects or chance.random() < 0.5:
                cluster.submit(demo(name, gpus=chance.choice((1, 2)), replicas=chance.randrange(0, 4)))
        cluster.failing = 0.15 if round_number % 2 else 0.0
        if chance.random() < 0.3:
            made.restart_operator()  # a new leader lists before it decides
            await made.mirror.refresh(cluster)
        else:
            # Events are late: only the wishes have arrived, and what we wrote ourselves.
            await made.mirror.refresh(cluster, [DIFFUSION_DEPLOYMENTS])
        woken = [name for name in names for _ in range(chance.randrange(1, 3))]
        await asyncio.gather(*(attempt(made, name) for name in dict.fromkeys(woken)))
        if chance.random() < 0.7:
            cluster.run_controllers()
            await made.mirror.refresh(cluster)
    assert cluster.broken == []
    cluster.failing = 0.0
    for _ in range(5):
        await made.mirror.refresh(cluster)
        await asyncio.gather(*(attempt(made, name) for name in names))
        cluster.run_controllers()
    pending = [name for (plural, _, name), pod in cluster.objects.items() if _waits(plural, pod)]
    assert pending == []  # no pod is unschedulable while its promise stands


def _waits(plural: str, obj: JsonObject) -> bool:
    return plural == "pods" and obj["status"]["phase"] == "Pending"


async def test_a_promise_counts_before_it_is_written() -> None:
    made = crowd(1, 2)
    for name in ("one", "two"):
        made.cluster.submit(demo(name, gpus=2))
    await made.mirror.refresh(made.cluster)
    await asyncio.gather(attempt(made, "one"), attempt(made, "two"))
    assert len(made.cluster.names(DEPLOYMENTS)) == 1


async def test_a_promise_whose_answer_was_lost_counts_until_it_is_read() -> None:
    """F7: the Deployment is there although we were told nothing; nobody else gets its GPUs."""
    made = crowd(1, 2)
    cluster: Any = made.cluster
    for name in ("one", "two"):
        cluster.submit(demo(name, gpus=2))
    await made.mirror.refresh(cluster)
    apply = cluster.apply

    async def lose(manifest: JsonObject, *, force: bool = True) -> JsonObject:
        answer: JsonObject = await apply(manifest, force=force)
        if manifest["kind"] == DEPLOYMENTS.kind:
            raise Unreachable("the answer is lost")
        return answer

    cluster.apply = lose
    await attempt(made, "one")
    cluster.apply = apply
    await attempt(made, "two")
    assert cluster.names(DEPLOYMENTS) == ["one-h200"]
    await attempt(made, "one")
    assert made.status("one")["placements"][0]["replicas"] == 1
    writes = [write for write in cluster.writes if write[:2] == ("apply", "Deployment")]
    assert writes == [("apply", "Deployment", "one-h200")]


async def test_gpus_stay_taken_until_the_status_has_let_them_go() -> None:
    made = crowd(1, 4)
    cluster: Any = made.cluster
    cluster.submit(demo("one", gpus=2, replicas=2))
    cluster.submit(demo("two", gpus=2))
    await made.settle("one")
    cluster.submit(demo("one", gpus=2, replicas=1))
    await made.mirror.refresh(cluster)
    status = cluster.apply_status

    async def fail(manifest: JsonObject) -> JsonObject:
        raise ServerError("500", status=500)

    cluster.apply_status = fail
    await attempt(made, "one")  # scaled down, but the status still promises two
    cluster.run_controllers()
    cluster.apply_status = status
    await made.mirror.refresh(cluster)
    await attempt(made, "two")
    assert cluster.names(DEPLOYMENTS) == ["one-h200"]
    await made.settle("one", "two")
    assert cluster.names(DEPLOYMENTS) == ["one-h200", "two-h200"]
    assert cluster.broken == []


async def test_before_serving_pods_are_touched_the_wish_is_read_again() -> None:
    """F2: the mirror shows an old spec (a stale list after a restart); it is not applied over the new one."""
    made = crowd(1, 4)
    cluster: Any = made.cluster
    old = cluster.submit(demo("one", gpus=1, replicas=3))
    await made.settle("one")
    stale = {**old, "metadata": dict(old["metadata"]), "spec": {**old["spec"], "replicas": 1}}
    made.restart_operator()
    await made.mirror.refresh(cluster)
    entry = made.mirror._shelves[DIFFUSION_DEPLOYMENTS].entries
    stale["metadata"]["generation"] = 0
    entry[("team", "one")] = type(entry[("team", "one")])("uid", 1, None, stale, None)
    written = len(cluster.writes)
    with pytest.raises(Exception, match="is at generation 1, not 0"):
        await made.reconciler.reconcile(DeploymentKey("team", "one"))
    assert made.writes_since(written) == []
    await made.reconciler.reconcile(DeploymentKey("team", "one"))
    assert made.writes_since(written) == []


@pytest.mark.parametrize("seed", range(20))
def test_a_ledger_that_is_changed_step_by_step_never_overallocates(seed: int) -> None:
    """And once every pod is bound it is the one that is built from nothing."""
    chance = random.Random(seed)
    nodes = [Node(f"node-{i}", extended={GPU: chance.choice((1, 2, 4, 8))}) for i in range(6)]
    ledger = build_ledger(nodes, [], [])
    total = ledger.capacity(None, GPU)
    own: dict[str, tuple[list[Pod], list[ManagedDeployment]]] = {}
    foreign: dict[str, list[Pod]] = {}
    for step in range(60):
        ledger.capacity(None, GPU)  # fills the memo that the next step mends
        if chance.random() < 0.2:
            node, gpus = chance.choice(total).node.name, 1
            free = {view.node.name: view.free for view in ledger.capacity(None, GPU)}
            foreign[node] = [Pod("x", f"p{step}", node=node, extended={GPU: gpus})] if free[node] else []
            ledger = with_foreign(ledger, node, foreign[node])
        else:
            owner = f"team/dd-{chance.randrange(6)}"
            gpus, replicas = chance.choice((1, 2, 4)), chance.randrange(4)
            free = {view.node.name: view.free for view in ledger.capacity(owner, GPU)}
            bound = pack(free, gpus, chance.randrange(replicas + 1))
            pods = [
                Pod("team", f"{owner[5:]}-{i}", node=node, extended={GPU: gpus}, owner=owner, group="g")
                for i, node in enumerate(bound)
            ]
            own[owner] = pods, [ManagedDeployment(owner, owner[5:], "g", replicas, GPU, gpus, "")]
            ledger = with_owners(ledger, {owner: own[owner]})
        for view in ledger.capacity(None, GPU):
            used = sum(claim.gpus for claim in ledger.claims.get(view.node.name, ()))
            assert view.free == view.total - used >= 0
    finished = {owner: (pods, []) for owner, (pods, _) in own.items()}
    for owner, (pods, _) in finished.items():
        ledger = with_owners(ledger, {owner: (pods, [])})
    every = [pod for pods, _ in finished.values() for pod in pods]
    built = build_ledger(nodes, [*every, *(pod for pods in foreign.values() for pod in pods)], [])
    assert ledger.capacity(None, GPU) == built.capacity(None, GPU)
    assert all(ledger.nodes_of(owner) == built.nodes_of(owner) for owner in own)


async def test_a_pod_that_takes_anothers_place_does_not_free_a_gpu() -> None:
    """The scheduler knows of no reservations: what was to stand where a pod was bound is packed anew."""
    made = crowd(1, 1, 1, 1)
    cluster: Any = made.cluster
    for name in ("one", "two", "three", "four"):
        cluster.submit(demo(name))
    await made.mirror.refresh(cluster)
    for name in ("one", "two"):
        await attempt(made, name)
    cluster._nodes = lambda _selector: ["node-1", "node-2", "node-0"]  # not where the ledger has put them
    cluster._roll(cluster.get_now(DEPLOYMENTS, "one-h200"))
    await made.mirror.refresh(cluster)
    for name in ("three", "four"):
        await attempt(made, name)
    assert cluster.names(DEPLOYMENTS) == ["one-h200", "three-h200", "two-h200"]
    assert cluster.broken == []
