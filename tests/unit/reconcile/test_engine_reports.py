"""Ready means that an engine says it executes the decided plan."""

from __future__ import annotations

from diffusion_operator.kube.resources import PODS
from unit.reconcile.worlds import World, demo, world


async def running() -> tuple[World, str]:
    """One replica that serves, and its pod's name."""
    made = world(1)
    made.cluster.submit(demo())
    await made.settle()
    return made, made.cluster.names(PODS)[0]


async def test_a_pod_that_gives_no_report_is_asked_again_and_is_not_ready() -> None:
    made, pod = await running()
    made.cluster.silent.add(pod)
    outcome = await made.reconcile()
    assert outcome.recheck_after_s == 5.0
    assert made.condition("Ready")["status"] == "False"
    assert pod in made.condition("Ready")["message"]
    made.cluster.silent.clear()
    await made.settle()
    assert made.condition("Ready")["status"] == "True"


async def test_an_engine_that_executes_something_else_is_a_plan_mismatch() -> None:
    made, pod = await running()
    made.cluster.executing[pod] = "ffffffffffff"
    await made.reconcile()
    assert (made.condition("Ready")["status"], made.condition("Ready")["reason"]) == ("False", "PlanMismatch")
    assert "ffffffffffff" in made.condition("Stalled")["message"]


async def test_pods_that_never_become_ready_leave_it_progressing() -> None:
    made = world(1)
    made.cluster.engines_ready = False
    made.cluster.submit(demo())
    await made.settle()
    assert made.condition("Ready")["reason"] == "Progressing"
    assert made.condition("Ready")["message"] == "0 of 1 replica available"
