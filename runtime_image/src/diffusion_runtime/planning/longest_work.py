"""How long requests may take by a plan's forecast, and how much work an engine has to be able to finish.

Engine and operator reckon by this one rule, so that what is accepted is what a pod is given time for. A plan
forecasts its first shape alone; other sizes are scaled so that they come out too long rather than too short.
Nothing is measured here.
"""

from __future__ import annotations

from diffusion_runtime.planning.documents import Plan, Shape

QUEUE_CAPACITY = 16
"""Requests that wait beside the one that is drawn."""
MOST_PICTURES = 10
"""Pictures of one request; a clip comes alone."""
MOST_STEPS = 1_000
"""Denoising steps of one request."""


def request_seconds(plan: Plan, shape: Shape, *, guided: bool | None = None) -> float:
    """One picture or clip of this shape. `guided`: with a second pass; None: as planned.

    A forward's work grows at most with the square of its tokens (attention). What is not a step (text,
    decode, moves) grows with the pixels. A smaller shape counts like the first: what it saves depends on
    tokens that are not of the picture and on launches, of which a plan says nothing.
    """
    first, time = plan.shapes[0], plan.time
    ratio = max(1.0, _pixels(shape) / _pixels(first))
    step = time.per_step_seconds * ratio**2
    if guided and not plan.guidance:
        step *= 2
    around = max(0.0, time.per_request_seconds - first.steps * time.per_step_seconds)
    return shape.steps * step + around * ratio


def longest_job_seconds(plan: Plan) -> float:
    """The longest request that an engine takes: as many pictures as one may ask for, of the largest planned
    shape, with the most steps and a second pass.
    """
    largest = max(plan.shapes, key=_pixels)
    clips = any(shape.frames > 1 for shape in plan.shapes)
    most = largest.model_copy(update={"steps": MOST_STEPS})
    return request_seconds(plan, most, guided=True) * (1 if clips else MOST_PICTURES)


def planned_job_seconds(plan: Plan) -> float:
    """One picture or clip of the slowest planned shape."""
    return max(request_seconds(plan, shape) for shape in plan.shapes)


def full_queue_seconds(plan: Plan) -> float:
    """A full queue of those."""
    return (QUEUE_CAPACITY + 1) * planned_job_seconds(plan)


def _pixels(shape: Shape) -> int:
    return shape.width * shape.height * shape.frames
