"""What requests may take at most by a forecast: every planned shape, many pictures, steps, a second pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from diffusion_runtime.models.catalog import facts_for, known_models
from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.documents import (
    NoPlan,
    Plan,
    Shape,
    TimeForecast,
    Workload,
    execution_hash,
)
from diffusion_runtime.planning.longest_work import (
    MOST_PICTURES,
    MOST_STEPS,
    QUEUE_CAPACITY,
    full_queue_seconds,
    longest_job_seconds,
    planned_job_seconds,
    request_seconds,
)
from unit.reconcile.plans import plan as forecast

SMALL = Shape(width=512, height=512, steps=20)
LARGE = Shape(width=1024, height=1024, steps=30)
TIME = TimeForecast(
    per_forward_seconds=0.05, per_step_seconds=0.1, per_request_seconds=2.5
)  # 20 steps + 0.5 s


def test_the_first_shape_takes_what_the_plan_says() -> None:
    assert request_seconds(forecast(shapes=(SMALL, LARGE), time=TIME), SMALL) == pytest.approx(2.5)


def test_a_larger_shape_takes_the_square_for_steps_and_its_pixels_for_the_rest() -> None:
    found = request_seconds(forecast(shapes=(SMALL, LARGE), time=TIME), LARGE)
    assert found == pytest.approx(30 * 0.1 * 16 + 0.5 * 4)


def test_a_smaller_shape_counts_like_the_first() -> None:
    both = forecast(
        shapes=(LARGE, SMALL), time=TimeForecast(**TIME.model_dump() | {"per_request_seconds": 3.5})
    )
    assert request_seconds(both, SMALL) == pytest.approx(20 * 0.1 + 0.5)
    assert request_seconds(both, LARGE) == pytest.approx(3.5)


def test_a_second_pass_that_was_not_planned_doubles_the_steps() -> None:
    unguided = forecast(shapes=(SMALL,), time=TIME, guidance=False)
    assert request_seconds(unguided, SMALL, guided=True) == pytest.approx(20 * 0.2 + 0.5)
    assert request_seconds(unguided, SMALL) == pytest.approx(2.5)
    assert request_seconds(forecast(shapes=(SMALL,), time=TIME), SMALL, guided=True) == pytest.approx(2.5)


def test_the_longest_job_is_ten_pictures_of_the_largest_shape_with_the_most_steps() -> None:
    both = forecast(shapes=(SMALL, LARGE), time=TIME)
    assert (MOST_PICTURES, MOST_STEPS) == (10, 1000)
    assert longest_job_seconds(both) == pytest.approx(10 * (1000 * 0.1 * 16 + 0.5 * 4))
    assert longest_job_seconds(forecast(shapes=(SMALL,), time=TIME)) == pytest.approx(10 * (1000 * 0.1 + 0.5))


def test_a_clip_comes_alone() -> None:
    clip = Shape(width=512, height=512, frames=81, steps=20)
    assert longest_job_seconds(forecast(shapes=(clip,), time=TIME)) == pytest.approx(1000 * 0.1 + 0.5)


def test_a_full_queue_is_of_the_slowest_shape() -> None:
    both = forecast(shapes=(SMALL, LARGE), time=TIME)
    assert planned_job_seconds(both) == request_seconds(both, LARGE)
    assert full_queue_seconds(both) == pytest.approx((QUEUE_CAPACITY + 1) * request_seconds(both, LARGE))


@pytest.mark.parametrize("model", known_models())
@pytest.mark.parametrize("times", [(1, 2), (2, 1)], ids=["small first", "large first"])
def test_the_scaled_time_is_never_less_than_a_forecast_of_its_own(
    model: str, times: tuple[int, int], answer: Callable[..., Plan | NoPlan], gpus: Callable[..., GpuNode]
) -> None:
    """The planner's own formula for each shape is the judge, where it plans the same execution."""
    default = facts_for(model).default_shape
    shapes = [
        default.model_copy(update={"width": default.width * by, "height": default.height * by})
        for by in times
    ]
    both, own = (
        answer(model, gpus("B200"), workload=Workload(shapes=chosen), mode="manual")
        for chosen in (tuple(shapes), (shapes[1],))
    )
    assert isinstance(both, Plan)
    assert isinstance(own, Plan)
    assert execution_hash(both) == execution_hash(own)
    assert request_seconds(both, shapes[1]) >= own.time.per_request_seconds - 1e-3
