"""One way of running one folder, in a process of its own: `python -m benchmarks.gpu.case IN.json OUT.json`.

Plain diffusers and the engine get the same request through the same call of the same pipeline class, so what
differs is what is measured: who placed, compiled and moved the weights. Decoding is left out.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image

from diffusion_runtime.generation.build import BuiltPipeline, build
from diffusion_runtime.generation.call import WithSound
from diffusion_runtime.generation.families import CALLS
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.generation.picture import draw_latents
from diffusion_runtime.generation.warm import warm
from diffusion_runtime.loading.folder import open_folder
from diffusion_runtime.loading.picture_text import PictureTextProcessor
from diffusion_runtime.planning.documents import Execution, Shape

Runner = Literal["engine", "diffusers", "diffusers compiled", "diffusers group offload"]


@dataclass(frozen=True)
class Case:
    """What to run. `execution` is the engine's; `request` the fields of a PictureRequest."""

    runner: Runner
    folder: str
    request: dict[str, Any]
    execution: dict[str, Any] = field(default_factory=dict)
    repeats: int = 3
    latents: str | None = None


@dataclass(frozen=True)
class Result:
    """Seconds to ready; medians over all forwards and over the repeats; peaks of denoising in bytes."""

    ready_seconds: float
    warm_seconds: float
    forward_ms: float
    forwards: int
    denoise_seconds: float
    peak_allocated_bytes: int
    peak_reserved_bytes: int


class Forwards:
    """Milliseconds of every call of every transformer, by events on the device."""

    def __init__(self, pipeline: Any) -> None:
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        names = [
            name for name in ("transformer", "transformer_2") if getattr(pipeline, name, None) is not None
        ]
        for name in names:
            module = getattr(pipeline, name)
            module.register_forward_pre_hook(lambda *_: self._begin(), prepend=True)
            module.register_forward_hook(lambda *_: self._end())

    def clear(self) -> None:
        """Forget what was recorded."""
        self._events = []

    def milliseconds(self) -> list[float]:
        """Of every finished forward."""
        torch.cuda.synchronize()
        return [begin.elapsed_time(end) for begin, end in self._events]

    def _begin(self) -> None:
        pair = (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        pair[0].record()
        self._events.append(pair)

    def _end(self) -> None:
        self._events[-1][1].record()


def run(case: Case) -> Result:
    """Load, warm up, repeat."""
    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    request = _request(case)
    start = time.monotonic()
    ours = case.runner == "engine"
    pipeline, once = _engine(case, request, device) if ours else _diffusers(case, request, device)
    ready = time.monotonic() - start
    forwards = Forwards(pipeline)
    start = time.monotonic()
    latents = once()
    torch.cuda.synchronize()
    warmed = time.monotonic() - start
    if case.latents is not None:
        torch.save(latents.float().cpu(), case.latents)
    forwards.clear()
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(case.repeats):
        start = time.monotonic()
        once()
        torch.cuda.synchronize()
        seconds.append(time.monotonic() - start)
    times = forwards.milliseconds()
    return Result(
        ready_seconds=ready,
        warm_seconds=warmed,
        forward_ms=median(times),
        forwards=len(times) // case.repeats,
        denoise_seconds=median(seconds),
        peak_allocated_bytes=torch.cuda.max_memory_allocated(),
        peak_reserved_bytes=torch.cuda.max_memory_reserved(),
    )


def _request(case: Case) -> PictureRequest:
    """With as many pictures as the model must be given; JSON carries none."""
    request = PictureRequest.model_validate(case.request)
    needed = open_folder(Path(case.folder)).family.input_images[0]
    return request.model_copy(update={"input_images": (_picture(request.width, request.height),) * needed})


def _picture(width: int, height: int) -> bytes:
    """Colours that change along both sides, as a file."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns % 256, rows % 256, (rows + columns) % 256], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def _engine(
    case: Case, request: PictureRequest, device: torch.device
) -> tuple[Any, Callable[[], torch.Tensor]]:
    execution = Execution.model_validate(case.execution)
    built: BuiltPipeline = build(case.folder, execution, 0, device)
    shape = Shape(width=request.width, height=request.height, steps=request.steps, frames=request.frames)
    warm(built, (shape,), request.guided, lambda phase, step: None)
    return built.pipeline, lambda: draw_latents(built, request, lambda phase, step: None)


def _diffusers(
    case: Case, request: PictureRequest, device: torch.device
) -> tuple[Any, Callable[[], torch.Tensor]]:
    from diffusers import DiffusionPipeline

    family = CALLS[open_folder(Path(case.folder)).family.pipeline_class]
    # Without torchvision diffusers cannot load this one; what it reads is the same.
    reader = Path(case.folder) / "processor"
    parts = {"processor": PictureTextProcessor.from_pretrained(str(reader))} if reader.is_dir() else {}
    pipeline = DiffusionPipeline.from_pretrained(
        case.folder,
        torch_dtype=torch.bfloat16,
        local_files_only=True,
        use_safetensors=True,
        **dict.fromkeys(parts),
    )
    for name, part in parts.items():
        setattr(pipeline, name, part)
    pipeline.set_progress_bar_config(disable=True)
    if case.runner == "diffusers group offload":
        for name, part in pipeline.components.items():
            if isinstance(part, torch.nn.Module) and name != "transformer":
                part.to(device)
        pipeline.transformer.enable_group_offload(
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=True,
        )
    else:
        pipeline.to(device)
    if case.runner == "diffusers compiled":
        pipeline.transformer.compile_repeated_blocks(fullgraph=True)

    def once() -> torch.Tensor:
        with torch.inference_mode():
            result = family.call(pipeline, request, device, "latent", lambda _: None)
        return result.frames if isinstance(result, WithSound) else result

    return pipeline, once


def main() -> int:
    """Read the case, write the result."""
    case = Case(**json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(asdict(run(case))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
