"""How a request becomes a call of diffusers' LTX2Pipeline: a clip and its sound.

Guidance is the classifier-free kind alone, one transformer call of both branches a step, as it was planned.
The pipeline's two further kinds (spatio-temporal, between modalities), each another call a step, stay off.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from .call import OnStep, Output, WithSound, refuse_long_prompts, seeded, step_end
from .messages import PictureRequest
from .sound import Sound

PROMPT_TOKENS = 1024  # to which the pipeline pads and cuts
BATCHED = (
    "hidden_states", "audio_hidden_states", "encoder_hidden_states", "audio_encoder_hidden_states",
    "timestep", "sigma", "encoder_attention_mask", "audio_encoder_attention_mask",
    "video_coords", "audio_coords",
)  # fmt: skip
"""Arguments of the transformer that hold both guidance branches."""
PLAIN_GUIDANCE: dict[str, Any] = {
    "stg_scale": 0.0, "modality_scale": 1.0, "guidance_rescale": 0.0, "audio_guidance_scale": None,
    "audio_stg_scale": None, "audio_modality_scale": None, "audio_guidance_rescale": None,
}  # fmt: skip
"""None: the sound is guided as the picture is."""


def check(pipeline: Any, request: PictureRequest) -> None:
    """UndrawablePicture for a prompt that is too long."""
    refuse_long_prompts(request, partial(_tokens, pipeline), PROMPT_TOKENS, "LTX-2")


def call(
    pipeline: Any, request: PictureRequest, _: torch.device, output: Output, on_step: OnStep
) -> WithSound:
    """Pixels (frames, 3, height, width) in 0..1 with sound, or latents (1, channels, latent frames, ...)."""
    frames, sound = pipeline(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt if request.guided else None,
        num_inference_steps=request.steps,
        generator=seeded(request.seed),
        **arguments(request, output, on_step),
    )
    return with_sound(pipeline, frames, sound, output)


def arguments(request: PictureRequest, output: Output, on_step: OnStep) -> dict[str, Any]:
    """What the pipeline is called with beside the prompt, the steps and where it begins."""
    return PLAIN_GUIDANCE | {
        "guidance_scale": request.guidance_scale,
        "width": request.width,
        "height": request.height,
        "num_frames": request.frames,
        "frame_rate": request.fps,
        "max_sequence_length": PROMPT_TOKENS,
        "output_type": output,
        "return_dict": False,
        "callback_on_step_end": step_end(on_step),
        "callback_on_step_end_tensor_inputs": ["latents"],
    }


def with_sound(pipeline: Any, frames: Any, sound: Any, output: Output) -> WithSound:
    """What the pipeline returned, without its batch; latents alone where nothing was decoded."""
    if output == "latent":
        return WithSound(frames, None)
    return WithSound(frames[0], Sound(sound[0], pipeline.vocoder.config.output_sampling_rate))


def _tokens(pipeline: Any, prompt: str) -> int:
    return len(pipeline.tokenizer(prompt.strip()).input_ids)
