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
from diffusers import DiffusionPipeline, WanImageToVideoPipeline, WanPipeline
from diffusers.pipelines.ltx2 import LTX2LatentUpsamplePipeline, LTX2LatentUpsamplerModel
from PIL import Image, ImageOps

from builders.small_pipelines import SMALL
from diffusion_runtime.generation.ltx_2 import PLAIN_GUIDANCE
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.loading.picture_text import PictureTextProcessor

PROMPTS = {"guided": "a red circle", "plain": "a red circle on the left"}
"""Their token counts are odd and even, with every tokenizer here that does not pad."""
Arguments = dict[str, Any]
FOUR_SIGMAS = [0.909375, 0.77109375, 0.5734375, 0.31640625]
"""Of a second stage in four steps: at every three quarters of a step of the published three, and zero."""


@dataclass(frozen=True)
class ParityFamily:
    """One small pipeline. `plain` makes a request the arguments of diffusers' pipeline.

    `parts` are what diffusers cannot load from the folder here. `fields` are of every request;
    `unguided_scale` is the family's. `like` names another small pipeline with the same classes. `more`:
    further requests, as what they change of the guided one.
    """

    plain: Callable[[PictureRequest], Arguments]
    fields: dict[str, Any] = field(default_factory=dict)
    unguided_scale: float = 1.0
    parts: Callable[[Path], dict[str, Any]] = lambda _: {}
    like: str | None = None
    more: dict[str, Arguments] = field(default_factory=dict)

    def requests(self) -> dict[str, PictureRequest]:
        """With and without guidance, and what else the family draws."""
        guided = self._request("guided", 4.0)
        more = {name: guided.model_copy(update=changes) for name, changes in self.more.items()}
        return {"guided": guided, "plain": self._request("plain", self.unguided_scale), **more}

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


def _clip_or_clip_of_picture(request: PictureRequest) -> Arguments:
    if not request.input_images:
        return _clip(request)
    picture = Image.open(io.BytesIO(request.input_images[0]))
    return _clip(request) | {"image": ImageOps.fit(picture, (request.width, request.height))}


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
FIRST_PICTURE = _picture_file(32, 64)
CLIP_OF_PICTURE = CLIP | {"input_images": (FIRST_PICTURE,)}
LTX_CLIP: dict[str, Any] = CLIP | {"width": 64, "fps": 24.0}
"""Half of it is a size, too."""
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
    "wan-2.2-5b": ParityFamily(
        _clip_or_clip_of_picture,
        PACKED_CLIP,
        like="wan",
        more={"picture": {"input_images": (FIRST_PICTURE,)}},
    ),
    "ltx-2": ParityFamily(_ltx_2, LTX_CLIP, more={"two stages": {"second_stage_steps": 4}}),
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
    drawn = {}
    for key, request in family.requests().items():
        arguments = {"prompt": request.prompt, **family.plain(request)}
        draw = in_two_stages if request.second_stage_steps else _at_once
        fitting = _with_picture(pipeline) if "image" in arguments else pipeline
        drawn[key] = draw(fitting, request, arguments, folder)[0]
    return drawn


def _with_picture(pipeline: Any) -> Any:
    """Wan 2.2's 5B model, whose folder names the pipeline without one; any other as it is."""
    if not isinstance(pipeline, WanPipeline):
        return pipeline
    fitting = WanImageToVideoPipeline(**pipeline.components, expand_timesteps=True)
    fitting.set_progress_bar_config(disable=True)
    return fitting


def _at_once(pipeline: Any, request: PictureRequest, arguments: Arguments, _: Path) -> Any:
    return pipeline(
        width=request.width,
        height=request.height,
        num_inference_steps=request.steps,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        output_type="latent",
        **arguments,
    )


def in_two_stages(
    pipeline: Any, request: PictureRequest, arguments: Arguments, folder: Path, output: str = "latent"
) -> Any:
    """LTX-2's two stages as diffusers' documentation has them; frames (or latents) and sound.

    `arguments` are those of both stages; the noise levels of four steps, since the published ones are three.
    """
    generator, own = torch.Generator("cpu").manual_seed(request.seed), pipeline.scheduler
    size = {"width": request.width // 2, "height": request.height // 2}
    dtype = pipeline.transformer.dtype
    upsampler = LTX2LatentUpsamplerModel.from_pretrained(folder / "latent_upsampler", dtype=dtype)
    upsample = LTX2LatentUpsamplePipeline(vae=pipeline.vae, latent_upsampler=upsampler)
    latents, sound = pipeline(
        **size,
        num_inference_steps=request.steps,
        generator=generator,
        output_type="latent",
        return_dict=False,
        **arguments,
    )
    latents = upsample(latents=latents, **size, output_type="latent", return_dict=False)[0]
    pipeline.scheduler = type(own).from_config(own.config, use_dynamic_shifting=False, shift_terminal=None)
    drawn = pipeline(
        latents=latents,
        audio_latents=sound,
        width=request.width,
        height=request.height,
        num_inference_steps=len(FOUR_SIGMAS),
        sigmas=FOUR_SIGMAS,
        noise_scale=FOUR_SIGMAS[0],
        generator=generator,
        output_type=output,
        return_dict=False,
        **arguments,
    )
    pipeline.scheduler = own
    return drawn
