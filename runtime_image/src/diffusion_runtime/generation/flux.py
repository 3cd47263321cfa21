"""How a request becomes a call of diffusers' FluxPipeline: FLUX.1-dev and FLUX.1-schnell.

dev reads its guidance scale as an input, schnell reads none; a second pass per step is only run where a
request sets one. CLIP sees the first 77 tokens of a prompt, as the pipeline has it; T5 sees all.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .call import OnStep, Output, refuse_long_prompts, seeded, step_end
from .messages import PictureRequest
from .undrawable import UndrawablePicture

EMBEDDED_GUIDANCE = 3.5  # of dev's model card
PROMPT_TOKENS = 512
SCHNELL_PROMPT_TOKENS = 256  # its authors' setting
"""To which the pipeline pads and cuts T5's tokens."""


def check(pipeline: Any, request: PictureRequest) -> None:
    """UndrawablePicture for a prompt that is too long, or a scale that the model does not read."""
    refuse_long_prompts(request, partial(_tokens, pipeline), _prompt_tokens(pipeline), "this FLUX.1")
    if request.embedded_guidance and not _reads_guidance(pipeline):
        raise UndrawablePicture(
            "guidance_scale has no effect on this model, which was trained without; leave it out.",
            "guidance_scale",
        )


def call(
    pipeline: Any, request: PictureRequest, device: torch.device, output: Output, on_step: OnStep
) -> torch.Tensor:
    """Pixels (1, 3, height, width), or packed latents (1, height*width / 256, channels)."""
    embeds, pooled = _encode(pipeline, request.prompt, device)
    negative_embeds, negative_pooled = None, None
    if request.guided:
        negative_embeds, negative_pooled = _encode(pipeline, request.negative_prompt, device)
    scale = request.embedded_guidance
    result = pipeline(
        prompt_embeds=embeds,
        pooled_prompt_embeds=pooled,
        negative_prompt_embeds=negative_embeds,
        negative_pooled_prompt_embeds=negative_pooled,
        true_cfg_scale=request.guidance_scale if request.guided else 1.0,
        guidance_scale=EMBEDDED_GUIDANCE if scale is None else scale,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        generator=seeded(request.seed),
        max_sequence_length=_prompt_tokens(pipeline),
        output_type=output,
        callback_on_step_end=step_end(on_step),
        callback_on_step_end_tensor_inputs=["latents"],
    )
    images: torch.Tensor = result.images
    return images


def _reads_guidance(pipeline: Any) -> bool:
    return bool(pipeline.transformer.config.guidance_embeds)


def _prompt_tokens(pipeline: Any) -> int:
    return PROMPT_TOKENS if _reads_guidance(pipeline) else SCHNELL_PROMPT_TOKENS


def _tokens(pipeline: Any, prompt: str) -> int:
    return len(pipeline.tokenizer_2(prompt).input_ids)


def _encode(pipeline: Any, prompt: str, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """T5's states (1, tokens, width) and CLIP's pooled state (1, width), in the transformer's dtype."""
    states, pooled, _ = pipeline.encode_prompt(
        prompt=prompt, prompt_2=None, device=device, max_sequence_length=_prompt_tokens(pipeline)
    )
    dtype = pipeline.transformer.dtype
    return states.to(dtype), pooled.to(dtype)
