"""How long a pod that is told to stop may finish what it accepted."""

from __future__ import annotations

import math

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.quantities import parse_duration_seconds
from diffusion_runtime.planning.documents import Plan

LEAST_DRAIN_S = 120
MOST_DRAIN_S = 3600
QUEUE_CAPACITY = 16
"""Requests that an engine accepts beside the one it draws: the default of `serve --queue-capacity`."""
SLACK = 1.25
"""A prediction is no promise: a quarter more than predicted."""
DRAIN_VARIABLE = "DIFFUSION_DRAIN_S"
"""Tells the engine how long it is given, so that it answers what it cannot finish."""


def drain_seconds(dd: DiffusionDeployment, plan: Plan) -> int:
    """Seconds for the longest work that an engine can have accepted: a full queue, by the prediction.

    A set drainTimeout wins. Without a prediction (on the CPU) two minutes; never more than an hour by itself.
    """
    wish = dd.spec.rollout.drain_timeout if dd.spec.rollout else None
    if wish:
        return parse_duration_seconds(wish)
    if plan.device == "cpu":
        return LEAST_DRAIN_S
    work_s = plan.time.per_request_seconds * (QUEUE_CAPACITY + 1) * SLACK
    return min(MOST_DRAIN_S, max(LEAST_DRAIN_S, math.ceil(work_s)))
