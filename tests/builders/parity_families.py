"""What parity needs of each small pipeline: requests, and the call of plain diffusers that answers them.

The reference is diffusers as its users write it: `DiffusionPipeline.from_pretrained` and one call, nothing of
this engine. A family adds its small pipeline to `SMALL` and one line here.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from builders.small_pipelines import SMALL
from diffusion_runtime.generation.ltx_2 import PLAIN_GUIDANCE
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


def _clip(request: PictureRequest) -> Arguments:
    return {
        "negative_prompt": request.negative_prompt,
        "guidance_scale": request.guidance_scale,
        "num_frames": request.frames,
    }


def _clip_of_picture(request: PictureRequest) -> Arguments:
    return _clip(request) | {"image": Image.open(io.BytesIO(request.input_images[0]))}


def _ltx_2(request: PictureRequest) -> Arguments:
    return _clip(request) | {"frame_rate": request.fps} | PLAIN_GUIDANCE


def _edit(request: PictureRequest) -> Arguments:
    pictures = [Image.open(io.BytesIO(data)) for data in request.input_images]
    return _true_cfg(request) | {"image": pictures[0] if len(pictures) == 1 else pictures}


def _edit_processor(folder: Path) -> dict[str, Any]:
    """Without torchvision diffusers cannot load the one that the folder names."""
    return {"processor": PictureTextProcessor.from_pretrained(str(folder / "processor"))}


def _picture_file(width: int, height: int) -> bytes:
    """Colours that change along both sides."""
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns * 5 % 256, rows * 5 % 256, (rows + columns) % 256], axis=-1)
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


EDIT_SIZE = {"width": 192, "height": 448}
"""21 tokens; with the 247 and 256 of the pictures as their pipelines scale them, four ranks get equal parts:
gloo gathers no others."""
CLIP: dict[str, Any] = {"width": 32, "height": 64, "frames": 9, "negative_prompt": "blue"}
"""24 tokens of the small Wan transformers: gloo gathers equal parts of a clip only, NCCL any."""
PACKED_CLIP = CLIP | {"width": 64}
"""12 tokens where the VAE packs pixels."""
CLIP_OF_PICTURE = CLIP | {"input_images": (_picture_file(32, 64),)}
LTX_CLIP: dict[str, Any] = CLIP | {"fps": 24.0}
PARITY: dict[str, ParityFamily] = {
    "qwen-image": ParityFamily(_true_cfg),
    "qwen-image edit": ParityFamily(
        _edit,
        EDIT_SIZE | {"input_images": (_picture_file(90, 64),)},
        parts=_edit_processor,
        like="qwen-image",
    ),
    "qwen-image edit plus": ParityFamily(
        _edit,
        EDIT_SIZE | {"input_images": (_picture_file(90, 64), _picture_file(64, 64))},
        parts=_edit_processor,
        like="qwen-image",
    ),
    "z-image": ParityFamily(_z_image, unguided_scale=0.0),
    "flux": ParityFamily(_flux),
    "flux schnell": ParityFamily(_flux_schnell, like="flux"),
    "wan": ParityFamily(_clip, CLIP),
    "wan-i2v": ParityFamily(_clip_of_picture, CLIP_OF_PICTURE, like="wan"),
    "wan-2.2": ParityFamily(_clip, CLIP, like="wan"),
    "wan-2.2-i2v": ParityFamily(_clip_of_picture, CLIP_OF_PICTURE, like="wan"),
    "wan-2.2-5b": ParityFamily(_clip, PACKED_CLIP, like="wan"),
    "ltx-2": ParityFamily(_ltx_2, LTX_CLIP),
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
