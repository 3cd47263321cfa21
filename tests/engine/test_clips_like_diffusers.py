"""Clips that the engine draws are those of plain diffusers: same folder, same seed, float32 on the CPU.

Frames (before they are encoded), sound and latents are equal bit for bit, wherever weights live. The
reference gets its weights at aligned addresses, as the engine does: else the CPU's kernels sum otherwise.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import numpy as np
import pytest
import torch
from diffusers.utils.torch_utils import get_module_execution_device
from PIL import Image

from builders.small_videos import SMALL_VIDEOS
from diffusion_runtime.generation.build import _say_device, build
from diffusion_runtime.generation.ltx_2 import PLAIN_GUIDANCE
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.generation.picture import draw, draw_latents
from diffusion_runtime.generation.undrawable import UndrawablePicture
from diffusion_runtime.loading.folder import ModelFolder, locate, open_folder
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.planning.documents import Execution, ModelRef, Residency, VaeSettings
from engine.plans import cpu_execution

CPU = torch.device("cpu")
RESIDENT, MOVED = Residency(mode="resident"), Residency(mode="component")
STREAMED = Residency(mode="layerwise", prefetch_blocks=1, resident_blocks=1)
PIXELS = np.random.default_rng(0).integers(0, 255, (64, 32, 3), dtype=np.uint8)
REQUEST = PictureRequest(
    prompt="a red circle", negative_prompt="blue", width=32, height=64, frames=9, steps=3,
    guidance_scale=5.0, seed=3,
)  # fmt: skip
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)")]


class Plain(NamedTuple):
    """Frames (frames, 3, height, width), latents and sound of diffusers' own pipeline."""

    frames: torch.Tensor
    latents: torch.Tensor
    sound: torch.Tensor | None


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelFolder]:
    torch.set_num_threads(1)
    root: Path = tmp_path_factory.mktemp("videos")
    for name, write in SMALL_VIDEOS.items():
        write(root / name)
    return {name: open_folder(root / name) for name in SMALL_VIDEOS}


@pytest.fixture(scope="module")
def plain(folders: dict[str, ModelFolder]) -> dict[str, Plain]:
    drawn = {}
    for name, folder in folders.items():
        frames, *sound = drawn_by_diffusers(folder, "pt")
        latents = drawn_by_diffusers(folder, "latent")[0]
        drawn[name] = Plain(frames[0], latents, sound[0][0] if sound else None)
    return drawn


def drawn_by_diffusers(folder: ModelFolder, output: str) -> Any:
    """Frames or latents, and what else the pipeline returns (sound)."""
    pipeline = getattr(diffusers, folder.family.pipeline_class).from_pretrained(folder.path)
    own = {"image": Image.fromarray(PIXELS)} if needs_picture(folder) else {}
    if folder.family.family == "ltx-2":
        own = PLAIN_GUIDANCE | {"frame_rate": 24.0}
    return called(pipeline, output, **own)


def called(pipeline: Any, output: str, **own: Any) -> Any:
    """What a pipeline of diffusers returns for the request."""
    pipeline.set_progress_bar_config(disable=True)
    for module in (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)):
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()  # from where its file lies to where torch aligns memory
    return pipeline(
        prompt=REQUEST.prompt,
        negative_prompt=REQUEST.negative_prompt,
        width=REQUEST.width,
        height=REQUEST.height,
        num_frames=REQUEST.frames,
        num_inference_steps=REQUEST.steps,
        guidance_scale=REQUEST.guidance_scale,
        generator=torch.Generator("cpu").manual_seed(REQUEST.seed),
        output_type=output,
        return_dict=False,
        **own,
    )


def needs_picture(folder: ModelFolder) -> bool:
    return folder.family.input_images[0] > 0


def request_for(folder: ModelFolder, **changes: Any) -> PictureRequest:
    if folder.family.family == "ltx-2":
        changes = {"fps": 24.0} | changes
    if needs_picture(folder):
        file = io.BytesIO()
        Image.fromarray(PIXELS).save(file, "PNG")
        changes = {"input_images": (file.getvalue(),)} | changes
    return REQUEST.model_copy(update=changes)


def execution_of(
    folder: ModelFolder, transformers: Residency, others: Residency, **changes: Any
) -> Execution:
    kinds = folder.kinds.items()
    residency = {name: transformers if kind == "transformer" else others for name, kind in kinds}
    dtype = dict.fromkeys(folder.kinds, "float32")
    return cpu_execution(residency=residency, **{"dtype": dtype, **changes})


def quiet(phase: str, step: int) -> None:
    pass


@pytest.mark.parametrize("name", SMALL_VIDEOS)
def test_frames_are_those_of_diffusers(name: str, folders: Any, plain: Any) -> None:
    folder, (frames, _, sound) = folders[name], plain[name]
    built = build(str(folder.path), execution_of(folder, RESIDENT, RESIDENT), 0, CPU)
    drawn = draw(built, request_for(folder), quiet)
    assert drawn.pixels is not None
    assert drawn.pixels.shape == (9, 64, 32, 3)
    assert torch.equal(drawn.pixels, (frames.permute(0, 2, 3, 1) * 255).round().to(torch.uint8))
    assert frames.std() > 0.02, "else equal frames would prove nothing"
    if sound is None:
        assert drawn.sound is None
    else:
        assert drawn.sound is not None
        assert drawn.sound.rate == 16_000
        assert torch.equal(drawn.sound.samples, sound)
        assert sound.std() > 0.01


@pytest.mark.parametrize("transformers", [MOVED, STREAMED], ids=["moved", "streamed"])
@pytest.mark.parametrize("name", SMALL_VIDEOS)
def test_wherever_weights_live_latents_are_those_of_diffusers(
    name: str, transformers: Residency, folders: Any, plain: Any
) -> None:
    folder, latents = folders[name], plain[name].latents
    built = build(str(folder.path), execution_of(folder, transformers, MOVED), 0, CPU)
    assert torch.equal(draw_latents(built, request_for(folder), quiet), latents)
    assert latents.std() > 0.3


def test_the_model_for_both_begins_with_a_picture_when_there_is_one(folders: Any) -> None:
    folder = folders["wan-2.2-5b"]
    assert folder.input_images == (0, 1)
    words = diffusers.WanPipeline.from_pretrained(folder.path)
    pipeline = diffusers.WanImageToVideoPipeline(**words.components, expand_timesteps=True)
    latents = called(pipeline, "latent", image=Image.fromarray(PIXELS))[0]
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, "PNG")
    built = build(str(folder.path), execution_of(folder, MOVED, MOVED), 0, CPU)
    request = request_for(folder, input_images=(file.getvalue(),))
    assert torch.equal(draw_latents(built, request, quiet), latents)
    assert not torch.equal(draw_latents(built, request_for(folder), quiet), latents)


def test_each_expert_moves_when_it_is_first_called(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folders["wan-2.2"]
    built = build(str(folder.path), execution_of(folder, MOVED, MOVED), 0, CPU)
    used: list[str] = []
    use = built.owner.use

    def noted(name: str, phase: Any) -> None:
        used.append(name)
        use(name, phase)

    monkeypatch.setattr(built.owner, "use", noted)
    draw(built, request_for(folder), quiet)
    moves = [name for name, before in zip(used, [None, *used], strict=False) if name != before]
    assert moves == ["text_encoder", "transformer", "transformer_2", "vae"]


def test_vae_decodes_clips_in_tiles(folders: Any, plain: Any) -> None:
    folder = folders["wan"]
    tiles = VaeSettings(tiling=True, tile_size=32)
    built = build(str(folder.path), execution_of(folder, RESIDENT, RESIDENT, vae=tiles), 0, CPU)
    calls = []
    built.pipeline.vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    drawn = draw(built, request_for(folder), quiet)
    assert drawn.pixels is not None
    assert drawn.pixels.shape == (9, 64, 32, 3)
    assert len(calls) == 6 * 3, "three latent frames in tiles of 32 pixels, 24 apart"


@pytest.mark.parametrize(
    ("name", "changes", "field"),
    [
        ("wan", {"prompt": "red " * 600}, "prompt"),
        ("wan", {"negative_prompt": "red " * 600}, "negative_prompt"),
        ("wan", {"guidance_scale_2": 3.0}, "guidance_scale_2"),
        ("ltx-2", {"prompt": "red " * 600}, "prompt"),
        ("wan-i2v", {"input_images": ()}, "input_reference"),
        ("wan-i2v", {"input_images": (b"no picture",)}, "input_reference"),
        ("wan-2.2-5b", {"input_images": (b"no picture",)}, "input_reference"),
        ("wan", {"input_images": (b"no place",)}, "input_reference"),
    ],
)
def test_requests_that_are_wrong_are_refused_before_weights_move(
    name: str, changes: dict[str, Any], field: str, folders: Any
) -> None:
    folder = folders[name]
    built = build(str(folder.path), execution_of(folder, MOVED, MOVED), 0, CPU)
    seen: list[str] = []
    with pytest.raises(UndrawablePicture) as refused:
        draw(built, request_for(folder, **changes), lambda phase, step: seen.append(phase))
    assert refused.value.field == field
    assert not seen


def test_diffusers_is_told_where_inputs_of_parked_weights_belong() -> None:
    """It would send the prompt's tokens and the latents to the host, where the weights are until the call."""
    module = torch.nn.Linear(2, 2)
    assert get_module_execution_device(module) == CPU
    _say_device(module, torch.device("cuda", 0))
    assert get_module_execution_device(module) == torch.device("cuda", 0)


def test_pipelines_of_the_same_parts_work_where_the_first_one_does(folders: Any) -> None:
    """They are made for one request, of parts whose weights are on the host just then."""
    first = build(str(folders["ltx-2"].path), execution_of(folders["ltx-2"], MOVED, MOVED), 0, CPU).pipeline
    second = build(str(folders["wan-2.2-5b"].path), execution_of(folders["wan-2.2-5b"], MOVED, MOVED), 0, CPU)
    parts = [*vars(first).values(), *vars(second.pipeline).values()]
    for module in (part for part in parts if isinstance(part, torch.nn.Module)):
        _say_device(module, torch.device("cuda", 0))
    for pipeline in (
        diffusers.LTX2LatentUpsamplePipeline(first.vae, first.latent_upsampler),
        diffusers.WanImageToVideoPipeline(**second.pipeline.components, expand_timesteps=True),
    ):
        assert pipeline._execution_device == torch.device("cuda", 0)


def test_mova_is_refused_because_diffusers_lacks_it(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "MOVA"}')
    for refused in (
        lambda: open_folder(tmp_path),
        lambda: locate(ModelRef(name="OpenMOSS-Team/MOVA-360p", family="mova", source="huggingFace")),
    ):
        with pytest.raises(EngineRefusal, match="has no MOVA pipeline"):
            refused()
