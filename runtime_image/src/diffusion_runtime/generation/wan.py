"""How a request becomes a call of diffusers' WanPipeline: Wan 2.1, and Wan 2.2 with its two transformers."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.pipelines.wan.pipeline_wan import prompt_clean

from .call import OnStep, Output, seeded, step_end
from .messages import PictureRequest
from .undrawable import UndrawablePicture

PROMPT_TOKENS = 512  # to which the pipeline pads and cuts; image-to-video attention relies on this number


def check(pipeline: Any, request: PictureRequest) -> None:
    """UndrawablePicture for a prompt that is too long, or a second scale without a second transformer."""
    _check_length(pipeline, request.prompt, "prompt")
    if request.guided:
        _check_length(pipeline, request.negative_prompt, "negative_prompt")
    if request.guidance_scale_2 is not None and pipeline.config.boundary_ratio is None:
        raise UndrawablePicture(
            "guidance_scale_2 is for models with two transformers; this one has one.", "guidance_scale_2"
        )


def call(
    pipeline: Any, request: PictureRequest, _: torch.device, output: Output, on_step: OnStep
) -> torch.Tensor:
    """Pixels (frames, 3, height, width) in 0..1, or latents (1, channels, latent frames, rows, columns)."""
    frames: torch.Tensor = pipeline(**arguments(request, output, on_step)).frames
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


def _check_length(pipeline: Any, prompt: str, field: str) -> None:
    tokens = len(pipeline.tokenizer(prompt_clean(prompt)).input_ids)
    if tokens > PROMPT_TOKENS:
        raise UndrawablePicture(f"{field} has {tokens} tokens; Wan reads at most {PROMPT_TOKENS}.", field)
