"""How a request becomes a call of diffusers' ZImagePipeline: Z-Image and Z-Image-Turbo."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .call import OnStep, Output, refuse_long_prompts, seeded, step_end
from .messages import PictureRequest

MAX_PROMPT_TOKENS = 512  # the pipeline's own default; beyond it the pipeline would cut silently
BATCHED = ("x", "t", "cap_feats")
"""Arguments of the transformer that hold both guidance branches, the prompt's first."""
WARM_PROMPTS = ("a picture", "a picture " * 32)
"""Tokens are padded to multiples of 32 and branches to the longer one, with a mask only where they differ."""


def check(pipeline: Any, request: PictureRequest) -> None:
    """UndrawablePicture for a prompt that is too long."""
    refuse_long_prompts(request, partial(_tokens, pipeline), MAX_PROMPT_TOKENS, "Z-Image")


def call(
    pipeline: Any, request: PictureRequest, device: torch.device, output: Output, on_step: OnStep
) -> torch.Tensor:
    """Pixels (1, 3, height, width), or latents (1, channels, height / 8, width / 8)."""
    prompt, negative = pipeline.encode_prompt(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        do_classifier_free_guidance=request.guided,
        device=device,
        max_sequence_length=MAX_PROMPT_TOKENS,
    )
    dtype = pipeline.transformer.dtype
    result = pipeline(
        prompt_embeds=[states.to(dtype) for states in prompt],
        negative_prompt_embeds=[states.to(dtype) for states in negative],
        guidance_scale=request.guidance_scale if request.guided else 0.0,
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


def _tokens(pipeline: Any, prompt: str) -> int:
    message = [{"role": "user", "content": prompt}]
    text = pipeline.tokenizer.apply_chat_template(
        message, tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    return len(pipeline.tokenizer(text).input_ids)
