"""A pod is given the time that the longest accepted work takes, and its engine is told the same number."""

from __future__ import annotations

import argparse

import pytest

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.render.drain import (
    DRAIN_VARIABLE,
    LEAST_DRAIN_S,
    MOST_DRAIN_S,
    QUEUE_VARIABLE,
    drain_seconds,
    queue_seconds,
)
from diffusion_runtime.commands import serve
from diffusion_runtime.planning.documents import Plan, Shape, TimeForecast
from diffusion_runtime.planning.longest_work import QUEUE_CAPACITY
from diffusion_runtime.server.limits import Limits
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

SMALL, LARGE = Shape(width=512, height=512, steps=50), Shape(width=1024, height=1024, steps=50)


def planned(dd: Dd) -> Plan:
    return Scene([NodeBuilder("n").gpus(1)]).decide(dd).groups[0].plan


def taking(request: float, step: float = 0.0, *, shapes: tuple[Shape, ...] = (SMALL,)) -> Plan:
    """A plan whose first shape takes so many seconds for a request and for each of its steps."""
    time = TimeForecast(per_forward_seconds=step, per_step_seconds=step, per_request_seconds=request)
    return planned(Dd()).model_copy(update={"time": time, "shapes": shapes})


def deployment(drain_timeout: str | None = None) -> DiffusionDeployment:
    dd = Dd() if drain_timeout is None else Dd().set("rollout.drainTimeout", drain_timeout)
    return DiffusionDeployment.parse(dd.build())


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.5, LEAST_DRAIN_S), (30.0, 638), (60.0, 1275), (600.0, MOST_DRAIN_S)]
)
def test_a_full_queue_by_the_prediction_and_a_quarter_more(seconds: float, expected: int) -> None:
    assert drain_seconds(deployment(), taking(seconds)) == expected


def test_ten_pictures_of_the_largest_shape_with_the_most_steps() -> None:
    # 50 steps of 10 ms: a thousand take 10 s, and four times the pixels at most sixteen times as long.
    one = taking(0.5, 0.01)
    assert drain_seconds(deployment(), one) == LEAST_DRAIN_S + 5  # 10 pictures x 10 s x 1.25
    two = taking(0.5, 0.01, shapes=(SMALL, LARGE))
    assert drain_seconds(deployment(), two) == 2000  # 10 x 160 s x 1.25
    assert drain_seconds(deployment(), taking(5.0, 0.1, shapes=(SMALL, LARGE))) == MOST_DRAIN_S


def test_one_planned_request_is_always_given_its_time() -> None:
    assert drain_seconds(deployment(), taking(5500.0)) == 6875


def test_the_order_of_two_shapes_does_not_shorten_the_time() -> None:
    large_first = taking(8.0, 0.16, shapes=(LARGE, SMALL))
    assert drain_seconds(deployment(), large_first) == 2000


def test_a_set_time_wins_and_the_cpu_has_no_prediction() -> None:
    assert drain_seconds(deployment("45s"), taking(600.0)) == 45
    cpu = Dd().set("performance.device", "cpu")
    plan = planned(cpu).model_copy(update={"time": taking(600.0).time})
    parsed = DiffusionDeployment.parse(cpu.build())
    assert (drain_seconds(parsed, plan), queue_seconds(parsed, plan)) == (LEAST_DRAIN_S, None)


@pytest.mark.parametrize(
    ("drain_timeout", "expected"),
    [(None, 510 + 1), ("45s", 510 + 1), ("2h", 5760)],
    ids=["by the prediction", "shorter by wish", "longer by wish"],
)
def test_the_engine_accepts_what_the_time_suffices_for(drain_timeout: str | None, expected: int) -> None:
    """A full queue of plain requests always counts as little enough: 17 x 30 s."""
    assert queue_seconds(deployment(drain_timeout), taking(30.0)) == expected


def test_a_full_queue_of_planned_requests_is_accepted_however_long_they_take() -> None:
    assert queue_seconds(deployment(), taking(1100.0)) == 17 * 1100


def test_engine_and_operator_speak_of_the_same_queue_and_variables() -> None:
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    assert Limits().queue_capacity == parser.get_default("queue_capacity") == QUEUE_CAPACITY
    assert (serve.DRAIN_VARIABLE, serve.QUEUE_VARIABLE) == (DRAIN_VARIABLE, QUEUE_VARIABLE)


def test_pod_and_engine_get_the_same_numbers() -> None:
    scene, dd = Scene([NodeBuilder("n").gpus(1)]), Dd().set("rollout.drainTimeout", "70m")
    scene.apply(dd, scene.decide(dd))
    pod = scene.deployments["default/demo-h200"]["spec"]["template"]["spec"]
    environment = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    assert (pod["terminationGracePeriodSeconds"], environment[DRAIN_VARIABLE]) == (4200, "4200")
    assert environment[QUEUE_VARIABLE] == "3360"
