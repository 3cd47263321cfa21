"""How a request becomes a call of diffusers' QwenImagePipeline."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .call import OnStep, Output, refuse_long_prompts, seeded, step_end
from .messages import PictureRequest

BLANK = " "  # what the model's authors use: an empty negative prompt has no tokens to attend to
MAX_PROMPT_TOKENS = 1024  # the pipeline's tokenizer_max_length; beyond it the pipeline would cut silently


def check(pipeline: Any, request: PictureRequest) -> None:
    """UndrawablePicture for a prompt that is too long."""
    refuse_long_prompts(request, partial(_tokens, pipeline), MAX_PROMPT_TOKENS, "Qwen-Image")


def call(
    pipeline: Any, request: PictureRequest, device: torch.device, output: Output, on_step: OnStep
) -> torch.Tensor:
    """Pixels (1, 3, height, width), or packed latents (1, height*width / (2*vae_scale)^2, channels)."""
    prompt = _encode(pipeline, request.prompt, device)
    negative: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
    if request.guided:
        negative = _encode(pipeline, request.negative_prompt or BLANK, device)
    result = pipeline(
        prompt_embeds=prompt[0],
        prompt_embeds_mask=prompt[1],
        negative_prompt_embeds=negative[0],
        negative_prompt_embeds_mask=negative[1],
        true_cfg_scale=request.guidance_scale if request.guided else 1.0,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        generator=seeded(request.seed),
        max_sequence_length=MAX_PROMPT_TOKENS,
        output_type=output,
        callback_on_step_end=step_end(on_step),
        callback_on_step_end_tensor_inputs=["latents"],
    )
    images: torch.Tensor = result.images
    return images


def _tokens(pipeline: Any, prompt: str) -> int:
    text = pipeline.prompt_template_encode.format(prompt or BLANK)
    return len(pipeline.tokenizer(text).input_ids) - int(pipeline.prompt_template_encode_start_idx)


def _encode(pipeline: Any, prompt: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Hidden states (1, tokens, width) in the transformer's dtype; a mask, None when all tokens count."""
    states, mask = pipeline.encode_prompt(prompt=prompt, device=device, max_sequence_length=MAX_PROMPT_TOKENS)
    return states.to(pipeline.transformer.dtype), mask
