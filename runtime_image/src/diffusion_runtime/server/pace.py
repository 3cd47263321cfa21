"""Seconds that requests of this engine take: as the plan forecasts, then as each size was drawn last."""

from __future__ import annotations

from diffusion_runtime.generation.messages import PictureRequest, Size
from diffusion_runtime.planning.documents import Plan, Shape
from diffusion_runtime.planning.longest_work import request_seconds

MOST_SIZES = 64


class Pace:
    """A size that was never drawn takes what the plan forecasts for it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._drawn: dict[tuple[Size, bool], tuple[PictureRequest, float]] = {}

    def learn(self, request: PictureRequest, seconds: float) -> None:
        """This request was drawn and took so long."""
        key = (request.size, request.guided)
        self._drawn.pop(key, None)
        self._drawn[key] = (request, seconds)
        if len(self._drawn) > MOST_SIZES:
            del self._drawn[next(iter(self._drawn))]

    def seconds(self, request: PictureRequest) -> float:
        """What this request should take."""
        forecast = self._forecast(request)
        known = self._drawn.get((request.size, request.guided))
        if known is None:
            return forecast
        drawn, seconds = known
        then = self._forecast(drawn)
        return seconds * (forecast / then if then else request.steps / drawn.steps)

    def _forecast(self, request: PictureRequest) -> float:
        width, height, frames = request.size
        shape = Shape.model_construct(width=width, height=height, frames=frames, steps=request.steps)
        return request_seconds(self._plan, shape, guided=request.guided)
