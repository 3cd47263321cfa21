"""How a request becomes a call of diffusers' Wan pipelines: text to video and image to video.

Wan 2.1 has one transformer, Wan 2.2 two that take turns; its 5B model has one and is for both pipelines. A
first picture of another shape than the clip is scaled to fill it: the pipeline itself would stretch it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.pipelines.wan.pipeline_wan import prompt_clean
from PIL import Image

from .call import OnStep, Output, refuse_long_prompts, seeded, step_end
from .input_pictures import filling, open_picture
from .messages import PictureRequest
from .undrawable import UndrawablePicture

PROMPT_TOKENS = 512  # to which the pipeline pads and cuts; image-to-video attention relies on this number


def check(pipeline: Any, request: PictureRequest) -> None:
    """UndrawablePicture for a prompt that is too long, a second scale without a second transformer, a picture
    that cannot be read or has no place.
    """
    _check_words(pipeline, request)
    if request.input_images and not pipeline.config.expand_timesteps:
        raise UndrawablePicture(
            "This model makes clips from text alone; leave the picture out.", "input_reference"
        )
    if request.input_images:
        _first_picture(request)


def _check_words(pipeline: Any, request: PictureRequest) -> None:
    refuse_long_prompts(request, partial(_tokens, pipeline), PROMPT_TOKENS, "Wan")
    if request.guidance_scale_2 is not None and pipeline.config.boundary_ratio is None:
        raise UndrawablePicture(
            "guidance_scale_2 is for models with two transformers; this one has one.", "guidance_scale_2"
        )


def call(
    pipeline: Any, request: PictureRequest, device: torch.device, output: Output, on_step: OnStep
) -> torch.Tensor:
    """Pixels (frames, 3, height, width) in 0..1, or latents (1, channels, latent frames, rows, columns)."""
    if request.input_images:
        return call_with_picture(_taking_pictures(pipeline), request, device, output, on_step)
    frames: torch.Tensor = pipeline(**arguments(request, output, on_step)).frames
    return frames if output == "latent" else frames[0]


def check_with_picture(pipeline: Any, request: PictureRequest) -> None:
    """As `check`; UndrawablePicture also when there is not one readable first picture."""
    _check_words(pipeline, request)
    _first_picture(request)


def call_with_picture(
    pipeline: Any, request: PictureRequest, _: torch.device, output: Output, on_step: OnStep
) -> torch.Tensor:
    """As `call`, beginning with the request's picture."""
    picture = _first_picture(request)
    frames: torch.Tensor = pipeline(image=picture, **arguments(request, output, on_step)).frames
    return frames if output == "latent" else frames[0]


def arguments(request: PictureRequest, output: Output, on_step: OnStep) -> dict[str, Any]:
    """What both Wan pipelines are called with."""
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt if request.guided else None,
        "guidance_scale": request.guidance_scale,
        "guidance_scale_2": request.guidance_scale_2,
        "width": request.width,
        "height": request.height,
        "num_frames": request.frames,
        "num_inference_steps": request.steps,
        "generator": seeded(request.seed),
        "max_sequence_length": PROMPT_TOKENS,
        "output_type": output,
        "callback_on_step_end": step_end(on_step),
        "callback_on_step_end_tensor_inputs": ["latents"],
    }


def _taking_pictures(pipeline: Any) -> Any:
    """The image-to-video pipeline of the same parts, where every token has a time of its own."""
    taking = WanImageToVideoPipeline(**pipeline.components, expand_timesteps=True)
    taking.set_progress_bar_config(disable=True)
    return taking


def _first_picture(request: PictureRequest) -> Image.Image:
    if len(request.input_images) != 1:
        raise UndrawablePicture(
            f"This model makes a clip from one picture; the request has {len(request.input_images)}.",
            "input_reference",
        )
    picture = open_picture(request.input_images[0], "input_reference")
    return filling(picture, request.width, request.height)


def _tokens(pipeline: Any, prompt: str) -> int:
    return len(pipeline.tokenizer(prompt_clean(prompt)).input_ids)
