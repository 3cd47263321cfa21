"""One request on one rank: text, denoise, decode, each with its components on the device. Rank 0 returns
pixels.

Whatever is wrong with the request itself becomes UndrawablePicture; everything else is the rank's failure.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from diffusion_runtime.planning.documents import PhaseMeasurement

from . import qwen_image
from .build import BuiltPipeline
from .measure import Measurements
from .messages import PictureRequest


class UndrawablePicture(RuntimeError):
    """This request gives no picture; the rank is fine.

    `field` is the request field at fault, None for a bug of ours.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True)
class Drawn:
    """Pixels (height, width, 3) uint8 on rank 0, None elsewhere; what each phase took."""

    pixels: torch.Tensor | None
    phases: dict[str, PhaseMeasurement]
    seconds_per_step: float


def draw(built: BuiltPipeline, request: PictureRequest, on_phase: Callable[[str, int], None]) -> Drawn:
    """Draw one picture.

    `on_phase(phase, step)` is called at every phase and every step, as a sign of life.
    """
    measured = Measurements(built.device)
    with torch.inference_mode():
        on_phase("text", 0)
        _check_prompts(built, request)
        with measured.phase("text"), built.in_use["text_encoder"]():
            prompt, negative = _encode(built, request)
        on_phase("denoise", 0)
        with (
            measured.phase("denoise"),
            built.in_use["transformer"](),
            _compiled(built, request),
            _guidance(built, negative is not None),
        ):
            latents = qwen_image.denoise(
                built.pipeline,
                prompt,
                negative,
                width=request.width,
                height=request.height,
                steps=request.steps,
                guidance_scale=request.guidance_scale,
                seed=request.seed,
                on_step=lambda step: on_phase("denoise", step + 1),
            )
        pixels = _decode(built, request, latents, measured, on_phase) if built.rank == 0 else None
    seconds = measured.phases["denoise"].seconds or 0.0
    return Drawn(pixels, measured.phases, seconds / request.steps)


def _check_prompts(built: BuiltPipeline, request: PictureRequest) -> None:
    """Before any weights move: ranks must refuse at the same time, and copies differ by seconds."""
    try:
        qwen_image.check_length(built.pipeline, request.prompt, "prompt")
        if request.guided:
            qwen_image.check_length(built.pipeline, request.negative_prompt, "negative_prompt")
    except qwen_image.PromptTooLong as error:
        raise UndrawablePicture(str(error), error.field) from error


def _encode(
    built: BuiltPipeline, request: PictureRequest
) -> tuple[qwen_image.Embedded, qwen_image.Embedded | None]:
    dtype = built.pipeline.transformer.dtype
    prompt = qwen_image.encode(built.pipeline, request.prompt, dtype, built.device)
    if not request.guided:
        return prompt, None
    return prompt, qwen_image.encode(built.pipeline, request.negative_prompt, dtype, built.device)


def _guidance(built: BuiltPipeline, guided: bool) -> AbstractContextManager[None]:
    """Without guidance there is one branch only: every rank computes it and rank 0's picture counts."""
    return built.branches.guided() if built.branches is not None and guided else nullcontext()


def _compiled(built: BuiltPipeline, request: PictureRequest) -> AbstractContextManager[None]:
    """Sizes that were not warmed are drawn uncompiled."""
    if built.compiled is None:
        return nullcontext()
    return built.compiled.in_use((request.width, request.height))


def _decode(
    built: BuiltPipeline,
    request: PictureRequest,
    latents: torch.Tensor,
    measured: Measurements,
    on_phase: Callable[[str, int], None],
) -> torch.Tensor:
    on_phase("decode", 0)
    with measured.phase("decode"), built.in_use["vae"]():
        pixels = qwen_image.decode(built.pipeline, latents, request.width, request.height)
    if not bool(torch.isfinite(pixels).all()):
        raise UndrawablePicture("The model produced values that are not finite; no picture was made of them.")
    return (pixels * 255).round().to(torch.uint8)
