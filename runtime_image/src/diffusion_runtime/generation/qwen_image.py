"""Qwen-Image: the three phases of a picture, each a call that the residency can wrap.

Same arithmetic as diffusers' QwenImagePipeline.__call__ (0.42.1); the phases are apart only so that each
component is on the device for its own phase and the other ranks need not decode.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

MAX_PROMPT_TOKENS = 1024  # the pipeline's tokenizer_max_length


class PromptTooLong(ValueError):
    """A prompt beyond `MAX_PROMPT_TOKENS`; the pipeline would cut it silently. `field` names which."""

    def __init__(self, field: str, tokens: int) -> None:
        super().__init__(f"{field} has {tokens} tokens; Qwen-Image reads at most {MAX_PROMPT_TOKENS}.")
        self.field = field


@dataclass(frozen=True)
class Embedded:
    """One encoded prompt: hidden states (1, tokens, width) and a mask (1, tokens), None when all tokens
    count.
    """

    states: torch.Tensor
    mask: torch.Tensor | None


def check_length(pipeline: Any, prompt: str, field: str) -> None:
    """Raises PromptTooLong. Needs no weights, so it comes before any are moved."""
    text = pipeline.prompt_template_encode.format(prompt)
    tokens = len(pipeline.tokenizer(text).input_ids) - pipeline.prompt_template_encode_start_idx
    if tokens > MAX_PROMPT_TOKENS:
        raise PromptTooLong(field, tokens)


def encode(pipeline: Any, prompt: str, dtype: torch.dtype, device: torch.device) -> Embedded:
    """Encode one prompt of checked length; hidden states come in the transformer's dtype."""
    states, mask = pipeline.encode_prompt(prompt=prompt, device=device, max_sequence_length=MAX_PROMPT_TOKENS)
    return Embedded(states.to(dtype), mask)


def denoise(
    pipeline: Any,
    prompt: Embedded,
    negative: Embedded | None,
    *,
    width: int,
    height: int,
    steps: int,
    guidance_scale: float,
    seed: int,
    on_step: Callable[[int], None],
) -> torch.Tensor:
    """Packed latents (1, height*width / (2*vae_scale)^2, channels).

    Noise is drawn on the CPU: same on every device.
    """

    def step_end(_: Any, step: int, __: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        on_step(step)
        return kwargs

    result = pipeline(
        prompt_embeds=prompt.states,
        prompt_embeds_mask=prompt.mask,
        negative_prompt_embeds=negative.states if negative else None,
        negative_prompt_embeds_mask=negative.mask if negative else None,
        true_cfg_scale=guidance_scale if negative else 1.0,
        width=width,
        height=height,
        num_inference_steps=steps,
        generator=torch.Generator("cpu").manual_seed(seed),
        max_sequence_length=MAX_PROMPT_TOKENS,
        output_type="latent",
        callback_on_step_end=step_end,
        callback_on_step_end_tensor_inputs=["latents"],
    )
    latents: torch.Tensor = result.images
    return latents


def decode(pipeline: Any, latents: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Pixels (height, width, 3) in 0..1, float32 on the CPU."""
    vae = pipeline.vae
    latents = pipeline._unpack_latents(latents, height, width, pipeline.vae_scale_factor).to(vae.dtype)
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents.device, latents.dtype)
    std = torch.tensor(vae.config.latents_std).view(shape).to(latents.device, latents.dtype)
    # Reciprocal first, then a division, as the pipeline does it: bf16 rounds differently the other way.
    latents = latents / (1.0 / std) + mean
    image = vae.decode(latents, return_dict=False)[0][:, :, 0]
    pixels: torch.Tensor = pipeline.image_processor.postprocess(image, output_type="pt")
    return pixels[0].permute(1, 2, 0).float().cpu()
