"""What every family's call shares: its signature, the seed, the sign of life after each step.

A family is two functions in a module of its own, `check` and `call`; `families` lists them. The arithmetic
is diffusers' own pipeline, called once per request; components move as it calls them (residency.owner).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch

from diffusion_runtime.loading.compiled import Size
from diffusion_runtime.parallel.cfg import GuidanceStyle, TwoCalls

from .messages import PictureRequest
from .sound import Sound
from .undrawable import UndrawablePicture

Output = Literal["pt", "latent"]
"""diffusers' `output_type`: pixels in 0..1, or what the last step left (nothing is decoded)."""
OnStep = Callable[[int], None]
AtSize = Callable[[PictureRequest], AbstractContextManager[None]]
"""Inside, blocks run compiled where the request's own size was warmed, else as they are."""
TWO_CALLS = TwoCalls()


class WithSound(NamedTuple):
    """Pixels or latents, and the sound that belongs to them; None where latents were asked for."""

    frames: torch.Tensor
    sound: Sound | None


@dataclass(frozen=True)
class FamilyCall:
    """`check` raises UndrawablePicture and needs no weights: ranks must refuse at the same time, and copies
    differ by seconds. `call` returns pixels (frames, 3, height, width) in 0..1, or latents; some with sound.

    `guidance`: how its pipeline runs both branches. `warm_prompts`: one for each kind of graph that prompts
    of different lengths need. `rate_counts`: frames a second change what the model computes, as sound does.
    `call_in_two_stages`: for `second_stage_steps`; None where the family has no such way.
    """

    check: Callable[[Any, PictureRequest], None]
    call: Callable[[Any, PictureRequest, torch.device, Output, OnStep], torch.Tensor | WithSound]
    guidance: GuidanceStyle = TWO_CALLS
    warm_prompts: tuple[str, ...] = ("a picture to warm up with",)
    rate_counts: bool = False
    call_in_two_stages: (
        Callable[[Any, PictureRequest, torch.device, Output, OnStep, AtSize], WithSound] | None
    ) = None

    def graphs_of(self, request: PictureRequest) -> Size:
        """Requests for which this is the same run the same compiled graphs."""
        return (*request.size, request.fps if self.rate_counts else 0.0)


def seeded(seed: int) -> torch.Generator:
    """Noise is drawn on the CPU: the same on every device."""
    return torch.Generator("cpu").manual_seed(seed)


def refuse_long_prompts(
    request: PictureRequest, tokens_of: Callable[[str], int], most: int, reader: str
) -> None:
    """UndrawablePicture for a prompt of over `most` tokens, whose end `reader` (the model) would miss."""
    prompts = {"prompt": request.prompt}
    if request.guided:
        prompts["negative_prompt"] = request.negative_prompt
    for field, prompt in prompts.items():
        tokens = tokens_of(prompt)
        if tokens > most:
            raise UndrawablePicture(f"{field} has {tokens} tokens; {reader} reads at most {most}.", field)


def step_end(on_step: OnStep) -> Callable[[Any, int, Any, dict[str, Any]], dict[str, Any]]:
    """A `callback_on_step_end` that tells how many steps are done."""

    def callback(_: Any, step: int, __: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        on_step(step + 1)
        return kwargs

    return callback
