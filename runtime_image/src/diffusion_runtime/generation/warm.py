"""Draws every declared shape once before the rank is ready, so that no request pays for compilation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.documents import Shape

from .build import BuiltPipeline
from .messages import PictureRequest
from .picture import draw

PROMPT = "a picture to warm up with"
STEPS = 2  # a schedule of one step has no last sigma to shift


def warm(
    built: BuiltPipeline, shapes: Sequence[Shape], guided: bool, on_phase: Callable[[str, int], None]
) -> None:
    """Compile for each size of `shapes`. A no-op when the plan compiles nothing. All ranks must call alike.

    EngineRefusal (PlanMismatch) when there is something to compile but no shape to do it for.
    """
    if built.compiled is None:
        return
    if not shapes:
        raise EngineRefusal("PlanMismatch", "compile.enabled=true needs a declared shape to warm up with.")
    for width, height in dict.fromkeys((shape.width, shape.height) for shape in shapes):
        request = PictureRequest(
            prompt=PROMPT,
            width=width,
            height=height,
            steps=STEPS,
            guidance_scale=built.guidance_scale if guided else 1.0,
            seed=0,
        )
        with built.compiled.warming((width, height)):
            draw(built, request, on_phase)
