"""How long a pod that is told to stop may finish what it accepted, and how much its engine accepts.

Both follow from the plan's forecast: by it, whatever was accepted is finished before the pod is killed.
"""

from __future__ import annotations

import math

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.quantities import parse_duration_seconds
from diffusion_runtime.planning.documents import Plan
from diffusion_runtime.planning.longest_work import (
    full_queue_seconds,
    longest_job_seconds,
    planned_job_seconds,
)

LEAST_DRAIN_S = 120
MOST_DRAIN_S = 3600
SLACK = 1.25
"""A prediction is no promise: a quarter more than predicted."""
DRAIN_VARIABLE = "DIFFUSION_DRAIN_S"
"""Tells the engine how long it is given, so that it answers what it cannot finish."""
QUEUE_VARIABLE = "DIFFUSION_QUEUE_S"
"""Tells the engine how many predicted seconds of work it may accept at once."""


def drain_seconds(dd: DiffusionDeployment, plan: Plan) -> int:
    """Seconds for the longest work that an engine can have accepted, by the prediction and a quarter more.

    A set drainTimeout wins. Without a prediction (on the CPU) two minutes. By itself never more than an hour,
    unless one planned request takes longer.
    """
    wish = dd.spec.rollout.drain_timeout if dd.spec.rollout else None
    return parse_duration_seconds(wish) if wish else _by_forecast(plan)


def queue_seconds(dd: DiffusionDeployment, plan: Plan) -> int | None:
    """Predicted seconds of work that fit in the time to drain; None without a prediction.

    A full queue of planned requests is accepted even where that is more: clips that take minutes wait for
    hours, here or elsewhere. A shorter drainTimeout does not make the queue shorter: who sets one wants pods
    to end, and clients to send again what was not drawn.
    """
    if plan.device == "cpu":
        return None
    fits_s = max(drain_seconds(dd, plan), _by_forecast(plan)) / SLACK
    return math.ceil(max(fits_s, full_queue_seconds(plan)))


def _by_forecast(plan: Plan) -> int:
    """A full queue of the slowest planned shape, or the longest single request, whichever is longer."""
    if plan.device == "cpu":
        return LEAST_DRAIN_S
    work_s = max(full_queue_seconds(plan), longest_job_seconds(plan)) * SLACK
    most_s = max(MOST_DRAIN_S, planned_job_seconds(plan) * SLACK)
    return math.ceil(min(most_s, max(LEAST_DRAIN_S, work_s)))
