"""A pod is given the time that the longest accepted work takes, and its engine is told the same number."""

from __future__ import annotations

import pytest

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.render.drain import DRAIN_VARIABLE, LEAST_DRAIN_S, MOST_DRAIN_S, drain_seconds
from diffusion_operator.render.drain import QUEUE_CAPACITY as COUNTED
from diffusion_runtime.commands import serve
from diffusion_runtime.planning.documents import Plan
from diffusion_runtime.server.limits import Limits
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder


def planned(dd: Dd) -> Plan:
    return Scene([NodeBuilder("n").gpus(1)]).decide(dd).groups[0].plan


def taking(seconds: float) -> Plan:
    plan = planned(Dd())
    return plan.model_copy(update={"time": plan.time.model_copy(update={"per_request_seconds": seconds})})


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.5, LEAST_DRAIN_S), (30.0, 638), (60.0, 1275), (600.0, MOST_DRAIN_S)]
)
def test_a_full_queue_by_the_prediction_and_a_quarter_more(seconds: float, expected: int) -> None:
    assert drain_seconds(DiffusionDeployment.parse(Dd().build()), taking(seconds)) == expected


def test_a_set_time_wins_and_the_cpu_has_no_prediction() -> None:
    chosen = DiffusionDeployment.parse(Dd().set("rollout.drainTimeout", "45s").build())
    assert drain_seconds(chosen, taking(600.0)) == 45
    cpu = Dd().set("performance.device", "cpu")
    plan = planned(cpu).model_copy(update={"time": taking(600.0).time})
    assert drain_seconds(DiffusionDeployment.parse(cpu.build()), plan) == LEAST_DRAIN_S


def test_engine_and_operator_speak_of_the_same_queue_and_variable() -> None:
    assert Limits().queue_capacity == COUNTED
    assert serve.DRAIN_VARIABLE == DRAIN_VARIABLE


def test_pod_and_engine_get_the_same_number() -> None:
    scene, dd = Scene([NodeBuilder("n").gpus(1)]), Dd().set("rollout.drainTimeout", "7m")
    scene.apply(dd, scene.decide(dd))
    pod = scene.deployments["default/demo-h200"]["spec"]["template"]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert (pod["terminationGracePeriodSeconds"], environment[DRAIN_VARIABLE]) == (420, "420")
