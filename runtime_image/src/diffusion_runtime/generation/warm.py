"""Draws every declared shape once before the rank is ready, so that no request pays for compilation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.documents import Shape

from .build import BuiltPipeline
from .input_pictures import blank_picture
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
    for width, height, frames in dict.fromkeys((shape.width, shape.height, shape.frames) for shape in shapes):
        request = PictureRequest(
            prompt=PROMPT,
            width=width,
            height=height,
            frames=frames,
            steps=STEPS,
            guidance_scale=built.guidance_scale if guided else 1.0,
            seed=0,
            input_images=(blank_picture(width, height),) * built.input_images,
        )
        with built.compiled.warming(request.size):
            draw(built, request, on_phase)
