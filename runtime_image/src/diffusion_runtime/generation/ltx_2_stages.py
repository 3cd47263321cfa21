"""LTX-2 in two stages, as diffusers' own three pipeline calls: half of the size, upsampled, the full size.

The second stage gives the upsampled latents, of picture and sound, noise again and removes it. The model's
authors do that with weights distilled for three steps, which this engine does not load: the model's own take
more steps, along the same curve, with the request's guidance. Noise levels beyond that are not offered.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplePipeline
from diffusers.pipelines.ltx2.utils import STAGE_2_DISTILLED_SIGMA_VALUES

from . import ltx_2
from .call import AtSize, OnStep, Output, WithSound, seeded
from .messages import PictureRequest
from .undrawable import UndrawablePicture


def check(pipeline: Any, request: PictureRequest) -> None:
    """As `ltx_2.check`; UndrawablePicture also for two stages without an upsampler that doubles the size."""
    ltx_2.check(pipeline, request)
    if not request.second_stage_steps:
        return
    upsampler = getattr(pipeline, "latent_upsampler", None)
    if upsampler is None:
        raise UndrawablePicture(
            "This model has no latent upsampler to draw in two stages with; leave two_stages out.",
            "two_stages",
        )
    if not _doubles(upsampler.config):
        raise UndrawablePicture(
            "two_stages needs an upsampler that doubles width and height and leaves the frames; that of this "
            "model does something else. Leave two_stages out.",
            "two_stages",
        )


def call(
    pipeline: Any,
    request: PictureRequest,
    device: torch.device,
    output: Output,
    on_step: OnStep,
    at_size: AtSize,
) -> WithSound:
    """As `ltx_2.call`, in two stages. The prompt is encoded once."""
    first, generator = request.first_stage, seeded(request.seed)
    common = {"generator": generator, **_encoded(pipeline, request, device)}
    with at_size(first):
        latents, sound = pipeline(
            num_inference_steps=first.steps, **common, **ltx_2.arguments(first, "latent", on_step)
        )
    latents = _upsampled(pipeline, first, latents)
    sigmas = second_stage_sigmas(request.second_stage_steps)
    with at_size(request):
        frames, sound = _with_these_sigmas(pipeline)(
            latents=latents,
            audio_latents=sound,
            noise_scale=sigmas[0],
            sigmas=sigmas,
            num_inference_steps=len(sigmas),
            **common,
            **ltx_2.arguments(request, output, lambda step: on_step(first.steps + step)),
        )
    return ltx_2.with_sound(pipeline, frames, sound, output)


def second_stage_sigmas(steps: int) -> list[float]:
    """Noise levels of the second stage: the published ones in three steps, in more steps along them."""
    published = [*STAGE_2_DISTILLED_SIGMA_VALUES, 0.0]
    last = len(published) - 1
    return [float(sigma) for sigma in np.interp(np.arange(steps) * last / steps, range(last + 1), published)]


def _doubles(config: Any) -> bool:
    scale = config.rational_spatial_scale if config.use_rational_resampler else 2.0
    return bool(config.spatial_upsample and not config.temporal_upsample and scale == 2.0)


def _encoded(pipeline: Any, request: PictureRequest, device: torch.device) -> dict[str, torch.Tensor | None]:
    names = (
        "prompt_embeds", "prompt_attention_mask", "negative_prompt_embeds", "negative_prompt_attention_mask",
    )  # fmt: skip
    encoded = pipeline.encode_prompt(
        request.prompt,
        request.negative_prompt if request.guided else None,
        do_classifier_free_guidance=request.guided,
        max_sequence_length=ltx_2.PROMPT_TOKENS,
        device=device,
    )
    return dict(zip(names, encoded, strict=True))


def _upsampled(pipeline: Any, first: PictureRequest, latents: torch.Tensor) -> torch.Tensor:
    upsample = LTX2LatentUpsamplePipeline(pipeline.vae, pipeline.latent_upsampler)
    upsampled: torch.Tensor = upsample(
        latents=latents,
        width=first.width,
        height=first.height,
        num_frames=first.frames,
        output_type="latent",
        return_dict=False,
    )[0]
    return upsampled


def _with_these_sigmas(pipeline: Any) -> Any:
    """The same pipeline with a scheduler that takes noise levels as they are; its own would shift them."""
    second = copy.copy(pipeline)
    second.scheduler = FlowMatchEulerDiscreteScheduler.from_config(
        pipeline.scheduler.config, use_dynamic_shifting=False, shift_terminal=None
    )
    return second
