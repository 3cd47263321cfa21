"""Two deployments and not enough GPUs: one runs, the other says what is missing and runs when it can."""

from __future__ import annotations

import asyncio

import pytest

from diffusion_operator.kube.resources import DEPLOYMENTS, DIFFUSION_DEPLOYMENTS, NODES
from diffusion_operator.reconcile.keys import DeploymentKey, Key
from diffusion_operator.reconcile.metrics import Metrics
from diffusion_operator.reconcile.queue import KeyedQueue
from diffusion_operator.reconcile.story import MEASURED_RECHECK_S, Outcome
from diffusion_operator.reconcile.wakes import Wakes
from diffusion_operator.reconcile.worker import work
from unit.reconcile.bells import OneBell
from unit.reconcile.worlds import World, demo, world


async def two(node_gpus: int) -> World:
    """Two deployments of two GPUs each, decided at the same moment."""
    made = world(node_gpus)
    for name in ("one", "two"):
        made.cluster.submit(demo(name, gpus=2))
    await asyncio.gather(made.reconcile("one"), made.reconcile("two"))
    await made.settle("one", "two")
    return made


async def test_one_runs_and_the_other_waits_with_numbers() -> None:
    made = await two(3)
    assert made.cluster.names(DEPLOYMENTS) == ["one-h200"]
    assert made.condition("Ready", "one")["status"] == "True"
    waits = made.condition("Reconciling", "two")
    assert (waits["status"], waits["reason"]) == ("True", "InsufficientGPUs")
    assert "2" in waits["message"]
    assert "1" in waits["message"]
    assert made.condition("Stalled", "two")["status"] == "False"
    assert (await made.reconcile("two")).recheck_after_s == 60.0


async def test_the_second_runs_when_the_node_gains_gpus() -> None:
    made = await two(2)
    made.cluster.set_gpus("node-1", 4)
    await made.settle("one", "two")
    assert made.condition("Ready", "two")["status"] == "True"
    assert (await made.reconcile("two")).recheck_after_s == pytest.approx(MEASURED_RECHECK_S, rel=0.16)


async def test_the_second_runs_when_the_first_is_deleted() -> None:
    made = await two(2)
    made.cluster.remove(DIFFUSION_DEPLOYMENTS, "one")
    await made.reconcile("one")
    await made.settle("two")
    assert made.condition("Ready", "two")["status"] == "True"


async def test_some_replicas_run_while_others_wait() -> None:
    made = world(3)
    made.cluster.submit(demo(gpus=1, replicas=5))
    await made.settle()
    assert made.status()["readyReplicas"] == 3
    assert made.condition("Ready")["status"] == "True"
    assert made.condition("Reconciling")["reason"] == "InsufficientGPUs"


async def test_new_gpus_wake_exactly_those_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    made = await two(2)
    queue: KeyedQueue[Key] = KeyedQueue(asyncio.get_running_loop())
    metrics = Metrics()
    reconcile, served = made.reconciler.reconcile, []

    async def reconcile_and_close(key: DeploymentKey) -> Outcome:
        served.append(key.name)
        outcome = await reconcile(key)
        queue.close()
        return outcome

    monkeypatch.setattr(made.reconciler, "reconcile", reconcile_and_close)
    made.mirror.on_change(Wakes(OneBell(queue.add)))
    made.cluster.set_gpus("node-1", 4)
    await made.mirror.refresh(made.cluster, [NODES])
    await work(queue, made.reconciler, metrics)
    assert served == ["two"]
    assert made.cluster.names(DEPLOYMENTS) == ["one-h200", "two-h200"]
    assert b'diffusion_operator_plans_total{outcome="planned",reason="Progressing"} 1.0' in metrics.text()
