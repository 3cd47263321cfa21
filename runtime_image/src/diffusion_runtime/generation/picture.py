"""One request on one rank: text, denoise, decode, each with its components on the device. Rank 0 returns
pixels.

Whatever is wrong with the request itself becomes UndrawablePicture; everything else is the rank's failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch

from diffusion_runtime.planning.documents import PhaseMeasurement
from diffusion_runtime.residency.owner import Phase

from .build import BuiltPipeline
from .call import OnStep, Output, WithSound
from .measure import Measurements
from .messages import PictureRequest
from .sound import Sound
from .undrawable import UndrawablePicture

OnPhase = Callable[[str, int], None]
"""Called with the phase and the steps done, at every phase and every step, as a sign of life."""


@dataclass(frozen=True)
class Drawn:
    """Pixels (frames, height, width, 3) uint8 and sound, if any, on rank 0, None elsewhere; what each phase
    took.

    `compiled`: the blocks ran compiled; of two stages, those of the second.
    """

    pixels: torch.Tensor | None
    phases: dict[str, PhaseMeasurement]
    seconds_per_step: float
    compiled: bool = False
    sound: Sound | None = None


def draw(built: BuiltPipeline, request: PictureRequest, on_phase: OnPhase) -> Drawn:
    """Draw one request. Every rank must call alike; only rank 0 decodes."""
    measured = Measurements(built.device)
    result = _run(built, request, "pt" if built.rank == 0 else "latent", measured, on_phase)
    seconds = measured.phases["denoise"].seconds or 0.0
    compiled = built.compiled is not None and built.compiled.used
    drawn = Drawn(None, measured.phases, seconds / request.all_steps, compiled)
    if built.rank != 0:
        return drawn
    return replace(drawn, pixels=_to_bytes(result.frames), sound=_checked(result.sound))


def draw_latents(built: BuiltPipeline, request: PictureRequest, on_phase: OnPhase) -> torch.Tensor:
    """What the last step left, undecoded, on every rank: what layouts and residencies are compared by."""
    return _run(built, request, "latent", Measurements(built.device), on_phase).frames


def _run(
    built: BuiltPipeline, request: PictureRequest, output: Output, measured: Measurements, on_phase: OnPhase
) -> WithSound:
    with torch.inference_mode():
        if request.second_stage_steps and built.family.call_in_two_stages is None:
            raise UndrawablePicture("This model draws in one stage only; leave two_stages out.", "two_stages")
        built.family.check(built.pipeline, request)
        with (
            measured.following() as enter,
            _moving(built, enter, on_phase) as on_step,
            _guidance(built, request.guided),
        ):
            result = _call(built, request, output, on_step)
    return result if isinstance(result, WithSound) else WithSound(result, None)


def _call(
    built: BuiltPipeline, request: PictureRequest, output: Output, on_step: OnStep
) -> torch.Tensor | WithSound:
    family, in_two_stages = built.family, built.family.call_in_two_stages
    if request.second_stage_steps and in_two_stages is not None:
        at_size = partial(_compiled, built)
        return in_two_stages(built.pipeline, request, built.device, output, on_step, at_size)
    with _compiled(built, request):
        return family.call(built.pipeline, request, built.device, output, on_step)


@contextmanager
def _moving(built: BuiltPipeline, enter: Callable[[str], None], on_phase: OnPhase) -> Iterator[OnStep]:
    """Components move as the pipeline calls them; a phase begins with the first component that it calls.

    Yields what to call after a step. Denoising that goes on after a break keeps its count of steps.
    """
    now: Phase | None = None
    steps = 0

    def on_use(_: str, phase: Phase) -> None:
        nonlocal now
        if phase != now:
            now = phase
            enter(phase)
            on_phase(phase, steps if phase == "denoise" else 0)

    def on_step(done: int) -> None:
        nonlocal steps
        steps = done
        on_phase("denoise", done)

    with built.owner.one_request(on_use):
        yield on_step


def _guidance(built: BuiltPipeline, guided: bool) -> AbstractContextManager[None]:
    """Without guidance there is one branch only: every rank computes it and rank 0's picture counts."""
    return built.branches.guided() if built.branches is not None and guided else nullcontext()


def _compiled(built: BuiltPipeline, request: PictureRequest) -> AbstractContextManager[None]:
    """Sizes that were not warmed are drawn uncompiled."""
    if built.compiled is None:
        return nullcontext()
    return built.compiled.in_use(built.family.graphs_of(request))


def _to_bytes(pixels: torch.Tensor) -> torch.Tensor:
    """(frames, 3, height, width) in 0..1 to (frames, height, width, 3) uint8 on the CPU."""
    _check_finite(pixels)
    return (pixels.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()


def _checked(sound: Sound | None) -> Sound | None:
    """The sound on the CPU."""
    if sound is None:
        return None
    _check_finite(sound.samples)
    return Sound(sound.samples.float().cpu(), sound.rate)


def _check_finite(values: torch.Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise UndrawablePicture("The model produced values that are not finite; no picture was made of them.")
