"""Seconds that requests of this engine take: as the plan forecasts, then as each size was drawn last.

A first stage at half of the size is forecast like one at the full size: too long rather than too short.
"""

from __future__ import annotations

from diffusion_runtime.generation.messages import PictureRequest, Size
from diffusion_runtime.planning.documents import Plan, Shape
from diffusion_runtime.planning.longest_work import request_seconds

MOST_SIZES = 64
Kind = tuple[Size, bool, bool]
"""Size, with guidance, in two stages: what takes as long when it is drawn again."""


class Pace:
    """A size that was never drawn takes what the plan forecasts for it."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._drawn: dict[Kind, tuple[PictureRequest, float]] = {}

    def learn(self, request: PictureRequest, seconds: float) -> None:
        """This request was drawn and took so long."""
        key = _kind(request)
        self._drawn.pop(key, None)
        self._drawn[key] = (request, seconds)
        if len(self._drawn) > MOST_SIZES:
            del self._drawn[next(iter(self._drawn))]

    def seconds(self, request: PictureRequest) -> float:
        """What this request should take."""
        forecast = self._forecast(request)
        known = self._drawn.get(_kind(request))
        if known is None:
            return forecast
        drawn, seconds = known
        then = self._forecast(drawn)
        return seconds * (forecast / then if then else request.all_steps / drawn.all_steps)

    def _forecast(self, request: PictureRequest) -> float:
        width, height, frames = request.size
        shape = Shape.model_construct(width=width, height=height, frames=frames, steps=request.all_steps)
        return request_seconds(self._plan, shape, guided=request.guided)


def _kind(request: PictureRequest) -> Kind:
    return request.size, request.guided, request.second_stage_steps > 0
