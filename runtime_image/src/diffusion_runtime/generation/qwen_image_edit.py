"""How a request becomes a call of diffusers' pipelines that edit pictures: Qwen-Image-Edit and its successor
for several pictures (2509). Both scale what they are given to about a megapixel, keeping its proportions.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from PIL import Image

from .call import OnStep, Output, refuse_long_prompts, seeded, step_end
from .input_pictures import open_picture
from .messages import PictureRequest
from .qwen_image import BLANK, MAX_PROMPT_TOKENS
from .undrawable import UndrawablePicture

FIELD = "image"


def check(pipeline: Any, request: PictureRequest) -> None:
    """UndrawablePicture for a prompt that is too long, or no picture that can be read."""
    # The pipeline reads any length; this is what its sibling without pictures reads.
    refuse_long_prompts(request, partial(_tokens, pipeline), MAX_PROMPT_TOKENS, "Qwen-Image-Edit")
    _pictures(request)


def call(
    pipeline: Any, request: PictureRequest, _: torch.device, output: Output, on_step: OnStep
) -> torch.Tensor:
    """Pixels (1, 3, height, width), or packed latents (1, height*width / (2*vae_scale)^2, channels)."""
    pictures = _pictures(request)
    result = pipeline(
        image=pictures[0] if len(pictures) == 1 else pictures,
        prompt=request.prompt,
        negative_prompt=(request.negative_prompt or BLANK) if request.guided else None,
        true_cfg_scale=request.guidance_scale if request.guided else 1.0,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        generator=seeded(request.seed),
        output_type=output,
        callback_on_step_end=step_end(on_step),
        callback_on_step_end_tensor_inputs=["latents"],
    )
    images: torch.Tensor = result.images
    return images


def _pictures(request: PictureRequest) -> list[Image.Image]:
    if not request.input_images:
        raise UndrawablePicture("This model edits pictures; the request has none.", FIELD)
    return [open_picture(data, FIELD) for data in request.input_images]


def _tokens(pipeline: Any, prompt: str) -> int:
    return len(pipeline.tokenizer(prompt).input_ids)
