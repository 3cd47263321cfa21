"""Draws every declared shape once before the rank is ready, so that no request pays for compilation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.parallel.cfg import OneBatch
from diffusion_runtime.planning.documents import Shape

from .build import BuiltPipeline
from .input_pictures import blank_picture
from .messages import PictureRequest
from .picture import draw

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
    scales = [built.guidance_scale if guided else built.unguided_scale]
    if guided and isinstance(built.family.guidance, OneBatch):
        scales.append(built.unguided_scale)  # a batch of one is another graph
    for width, height, frames in dict.fromkeys((shape.width, shape.height, shape.frames) for shape in shapes):
        requests = [
            PictureRequest(
                prompt=prompt,
                width=width,
                height=height,
                frames=frames,
                fps=built.fps,
                steps=STEPS,
                guidance_scale=scale,
                unguided_scale=built.unguided_scale,
                seed=0,
                input_images=(blank_picture(width, height),) * built.input_images,
            )
            for prompt, scale in product(built.family.warm_prompts, scales)
        ]
        with built.compiled.warming(built.family.graphs_of(requests[0])):
            for request in requests:
                draw(built, request, on_phase)
