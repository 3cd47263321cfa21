"""What parity needs of each small pipeline: requests, and the call of plain diffusers that answers them.

The reference is diffusers as its users write it: `DiffusionPipeline.from_pretrained` and one call, nothing of
this engine. A family adds its small pipeline to `SMALL` and one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from builders.small_pipelines import SMALL
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.loading.picture_text import PictureTextProcessor

PROMPTS = {"guided": "a red circle", "plain": "a red circle on the left"}
"""Their token counts are odd and even, with every tokenizer here that does not pad."""
Arguments = dict[str, Any]


@dataclass(frozen=True)
class ParityFamily:
    """One small pipeline. `plain` makes a request the arguments of diffusers' pipeline.

    `parts` are what diffusers cannot load from the folder here. `fields` are of every request;
    `unguided_scale` is the family's. `like` names another small pipeline with the same classes.
    """

    plain: Callable[[PictureRequest], Arguments]
    fields: dict[str, Any] = field(default_factory=dict)
    unguided_scale: float = 1.0
    parts: Callable[[Path], dict[str, Any]] = lambda _: {}
    like: str | None = None

    def requests(self) -> dict[str, PictureRequest]:
        """With and without guidance."""
        return {
            "guided": self._request("guided", 4.0),
            "plain": self._request("plain", self.unguided_scale),
        }

    def _request(self, name: str, scale: float) -> PictureRequest:
        fields = {"width": 64, "height": 96, "steps": 3, "seed": 1, **self.fields}
        return PictureRequest(
            prompt=PROMPTS[name], guidance_scale=scale, unguided_scale=self.unguided_scale, **fields
        )


def _true_cfg(request: PictureRequest) -> Arguments:
    if not request.guided:
        return {"true_cfg_scale": 1.0}
    return {"negative_prompt": request.negative_prompt or " ", "true_cfg_scale": request.guidance_scale}


def _z_image(request: PictureRequest) -> Arguments:
    return {"negative_prompt": request.negative_prompt, "guidance_scale": request.guidance_scale}


def _flux(request: PictureRequest) -> Arguments:
    guidance = {"negative_prompt": ""} if request.guided else {}
    return guidance | {"true_cfg_scale": request.guidance_scale, "guidance_scale": 3.5}


def _flux_schnell(request: PictureRequest) -> Arguments:
    return _flux(request) | {"guidance_scale": 0.0, "max_sequence_length": 256}


def _edit(request: PictureRequest) -> Arguments:
    pictures = [Image.open(BytesIO(data)) for data in request.input_images]
    return _true_cfg(request) | {"image": pictures[0] if len(pictures) == 1 else pictures}


def _edit_processor(folder: Path) -> dict[str, Any]:
    """Without torchvision diffusers cannot load the one that the folder names."""
    return {"processor": PictureTextProcessor.from_pretrained(str(folder / "processor"))}


def _picture(width: int, height: int) -> bytes:
    """Stripes of every colour."""
    columns = np.linspace(0, 255, width, dtype=np.uint8)
    pixels = np.stack(np.broadcast_arrays(columns, columns[::-1], np.linspace(9, 99, height)[:, None]), -1)
    buffer = BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


EDIT_SIZE = {"width": 128, "height": 192}
WAN_SIZE = {"frames": 5}


def _wan(request: PictureRequest) -> Arguments:
    guidance = {"negative_prompt": request.negative_prompt, "guidance_scale": request.guidance_scale}
    return guidance | {"num_frames": request.frames}


def _wan_from_picture(request: PictureRequest) -> Arguments:
    return _wan(request) | {"image": Image.open(BytesIO(request.input_images[0]))}


PARITY: dict[str, ParityFamily] = {
    "qwen-image": ParityFamily(_true_cfg),
    "qwen-image edit": ParityFamily(
        _edit, EDIT_SIZE | {"input_images": (_picture(90, 64),)}, parts=_edit_processor, like="qwen-image"
    ),
    "qwen-image edit plus": ParityFamily(
        _edit,
        EDIT_SIZE | {"input_images": (_picture(90, 64), _picture(32, 64))},
        parts=_edit_processor,
        like="qwen-image",
    ),
    "z-image": ParityFamily(_z_image, unguided_scale=0.0),
    "flux": ParityFamily(_flux),
    "flux schnell": ParityFamily(_flux_schnell, like="flux"),
    "wan": ParityFamily(_wan, WAN_SIZE),
    "wan-2.2": ParityFamily(_wan, WAN_SIZE, like="wan"),
    "wan-i2v": ParityFamily(_wan_from_picture, WAN_SIZE | {"input_images": (_picture(64, 96),)}, like="wan"),
    "wan-2.2-i2v": ParityFamily(
        _wan_from_picture, WAN_SIZE | {"input_images": (_picture(64, 96),)}, like="wan"
    ),
}


def write_folder(name: str, parent: Path) -> Path:
    """The small pipeline's folder below `parent`, written once."""
    folder = parent / name.replace(" ", "-")
    if not folder.exists():
        SMALL[name](folder)
    return folder


def plain_latents(name: str, folder: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """By request: the latents of plain diffusers, every component in `dtype`."""
    family = PARITY[name]
    parts = family.parts(folder)
    pipeline = DiffusionPipeline.from_pretrained(
        str(folder), dtype=dtype, local_files_only=True, **dict.fromkeys(parts)
    )
    for part, its in parts.items():
        setattr(pipeline, part, its)
    pipeline.set_progress_bar_config(disable=True)
    return {key: _latents(pipeline, request, family) for key, request in family.requests().items()}


def _latents(pipeline: Any, request: PictureRequest, family: ParityFamily) -> torch.Tensor:
    latents: torch.Tensor = pipeline(
        prompt=request.prompt,
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="latent",
        **family.plain(request),
    )[0]
    return latents
