"""LTX-2 in two stages is what three calls of diffusers' pipelines draw, bit for bit in float32 on the CPU.

Two ranks and compiled blocks draw the same in test_layout_parity.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiffusionPipeline
from diffusers.pipelines.ltx2.utils import STAGE_2_DISTILLED_SIGMA_VALUES

from builders.parity_families import PARITY, in_two_stages, write_folder
from diffusion_runtime.cli import main
from diffusion_runtime.commands import generate
from diffusion_runtime.generation.build import build
from diffusion_runtime.generation.ltx_2_stages import second_stage_sigmas
from diffusion_runtime.generation.messages import draw_frame, drawn_request
from diffusion_runtime.generation.picture import draw
from diffusion_runtime.generation.undrawable import UndrawablePicture
from diffusion_runtime.loading.folder import open_folder
from diffusion_runtime.loading.refusal import EngineRefusal
from diffusion_runtime.loading.remote.choice import choose
from diffusion_runtime.loading.remote.source import RemoteFile, RemoteModel
from diffusion_runtime.planning.documents import Execution, ModelRef, Residency, Shape, TimeForecast
from diffusion_runtime.server.openai_errors import ApiError
from diffusion_runtime.server.pace import Pace
from diffusion_runtime.server.video_request import (
    VideoRules,
    parse_video_request,
    typed_form,
    video_rules_of,
)
from engine.plans import cpu_execution, plan_for

CPU = torch.device("cpu")
REQUEST = PARITY["ltx-2"].requests()["two stages"]
SHAPES = (Shape(width=128, height=64, frames=9, steps=30),)
ASKED = {"prompt": "it moves", "seed": 7}
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return write_folder("ltx-2", tmp_path_factory.mktemp("ltx"))


@pytest.fixture(scope="module")
def without_upsampler(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copied = tmp_path_factory.mktemp("plain") / "ltx"
    shutil.copytree(folder, copied, ignore=shutil.ignore_patterns("latent_upsampler"))
    return copied


def moved(folder: Path) -> Execution:
    kinds = open_folder(folder).kinds
    return cpu_execution(
        residency=dict.fromkeys(kinds, Residency(mode="component")), dtype=dict.fromkeys(kinds, "float32")
    )


def rules(folder: Path, **changes: Any) -> VideoRules:
    model = ModelRef(name="ltx", family="ltx-2", source="path", path=str(folder))
    plan = plan_for(moved(folder), model=model, **{"shapes": SHAPES, **changes})
    found = video_rules_of(plan, open_folder(folder))
    assert found is not None
    return found


def test_frames_and_sound_are_those_of_diffusers_pipelines(folder: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(str(folder), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    for module in (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)):
        for parameter in module.parameters():
            parameter.data = parameter.data.clone()  # from where its file lies to where torch aligns memory
    arguments = {"prompt": REQUEST.prompt, **PARITY["ltx-2"].plain(REQUEST)}
    frames, sound = in_two_stages(pipeline, REQUEST, arguments, folder, "pt")
    drawn = draw(build(str(folder), moved(folder), 0, CPU), REQUEST, lambda phase, step: None)
    assert drawn.pixels is not None
    assert drawn.pixels.shape == (9, 64, 64, 3)
    assert torch.equal(drawn.pixels, (frames[0].permute(0, 2, 3, 1) * 255).round().to(torch.uint8))
    assert drawn.sound is not None
    assert torch.equal(drawn.sound.samples, sound[0])
    assert frames.std() > 0.02, "else equal frames would prove nothing"


def test_both_stages_count_and_the_upsampler_leaves_before_frames_are_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = build(str(folder), moved(folder), 0, CPU)
    used: list[str] = []
    told: list[tuple[str, int]] = []
    use = built.owner.use

    def noted(name: str, phase: Any) -> None:
        if name != built.owner.on_device:
            used.append(name)
        use(name, phase)

    monkeypatch.setattr(built.owner, "use", noted)
    drawn = draw(built, REQUEST, lambda phase, step: told.append((phase, step)))
    assert used == [
        "text_encoder", "connectors", "transformer", "latent_upsampler",
        "connectors", "transformer", "vae", "audio_vae", "vocoder",
    ]  # fmt: skip
    steps = [step for phase, step in told if phase == "denoise"]
    assert steps == [0, 1, 2, 3, 3, 4, 5, 6, 7], "it goes on where the first stage ended"
    assert drawn.seconds_per_step == pytest.approx((drawn.phases["denoise"].seconds or 0) / 7)


def test_each_stage_runs_as_its_own_size_was_warmed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = build(str(folder), moved(folder), 0, CPU)
    seen: list[tuple[int, int, int]] = []

    class Blocks:
        used = True

        @contextlib.contextmanager
        def in_use(self, size: Any) -> Iterator[None]:
            seen.append(size)
            yield

    draw(replace(built, compiled=Blocks()), REQUEST, lambda phase, step: None)  # type: ignore[arg-type]
    assert seen == [(32, 32, 9, 24.0), (64, 64, 9, 24.0)]


def test_noise_levels_are_the_published_ones_and_along_them() -> None:
    assert second_stage_sigmas(3) == STAGE_2_DISTILLED_SIGMA_VALUES
    ten = second_stage_sigmas(10)
    assert ten[0] == STAGE_2_DISTILLED_SIGMA_VALUES[0]
    assert ten == sorted(set(ten), reverse=True)
    assert ten[-1] > 0
    assert second_stage_sigmas(1) == ten[:1]


@pytest.mark.parametrize(
    ("what", "words"),
    [("without", "has no latent upsampler"), ("other", "that doubles width"), ("wan", "in one stage only")],
)
def test_ranks_refuse_what_has_no_fitting_upsampler(
    what: str, words: str, folder: Path, without_upsampler: Path, tmp_path: Path
) -> None:
    path = {"without": without_upsampler, "other": folder}.get(what) or write_folder("wan", tmp_path)
    built = build(str(path), moved(path), 0, CPU)
    if what == "other":
        built.pipeline.latent_upsampler.register_to_config(rational_spatial_scale=4.0)
    seen: list[str] = []
    with pytest.raises(UndrawablePicture, match=words) as refused:
        draw(built, REQUEST, lambda phase, step: seen.append(phase))
    assert refused.value.field == "two_stages"
    assert not seen


def test_an_upsampler_of_another_class_is_refused(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "ltx")
    config = tmp_path / "ltx" / "latent_upsampler" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "Other"}))
    with pytest.raises(EngineRefusal, match=r"config\.json gives latent_upsampler the class Other"):
        open_folder(tmp_path / "ltx")


def test_an_upsampler_that_the_index_lists_is_the_same(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "ltx")
    index = tmp_path / "ltx" / "model_index.json"
    listed = {"latent_upsampler": ["ltx2", "LTX2LatentUpsamplerModel"]}
    index.write_text(json.dumps(json.loads(index.read_text()) | listed))
    assert open_folder(tmp_path / "ltx").classes == open_folder(folder).classes


@pytest.mark.parametrize(
    ("fields", "size", "steps"),
    [
        ({}, (128, 64), 0),
        ({"two_stages": False}, (128, 64), 0),
        ({"two_stages": True}, (128, 64), 10),
        ({"two_stages": True, "size": "64x64", "num_inference_steps": 4}, (64, 64), 3),
        ({"two_stages": True, "second_stage_steps": 5}, (128, 64), 5),
        (typed_form({"two_stages": "true", "second_stage_steps": "5"}), (128, 64), 5),
        (typed_form({"two_stages": "False"}), (128, 64), 0),
    ],
)
def test_two_stages_are_asked_for(
    fields: dict[str, Any], size: tuple[int, int], steps: int, folder: Path
) -> None:
    request = parse_video_request(ASKED | fields, rules(folder))
    assert (request.width, request.height, request.second_stage_steps) == (*size, steps)
    assert drawn_request(*draw_frame(request)) == request


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"two_stages": "yes"}, "two_stages", "must be true or false, not a string"),
        (typed_form({"two_stages": "yes"}), "two_stages", "must be true or false, not a string"),
        ({"two_stages": 1}, "two_stages", "must be true or false, not a number"),
        ({"second_stage_steps": 3}, "second_stage_steps", "has no effect without two_stages"),
        ({"two_stages": True, "second_stage_steps": 0}, "second_stage_steps", "must be 1 to 1000"),
        (
            {"two_stages": True, "size": "96x32"},
            "two_stages",
            "half of 96x32, which cannot be drawn: both sides must be multiples of 64, such as 64x64.",
        ),
        (
            {"two_stages": True, "num_inference_steps": 900},
            "second_stage_steps",
            "num_inference_steps 900 and second_stage_steps 300 are together more than 1000.",
        ),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, Any], param: str, words: str, folder: Path) -> None:
    with pytest.raises(ApiError) as refused:
        parse_video_request(ASKED | fields, rules(folder))
    assert refused.value.param == param
    assert words in refused.value.message


def test_models_without_an_upsampler_refuse_at_once(without_upsampler: Path) -> None:
    with pytest.raises(ApiError, match="'ltx' has no latent upsampler to draw in two stages with") as refused:
        parse_video_request(ASKED | {"two_stages": True}, rules(without_upsampler))
    assert refused.value.param == "two_stages"


def test_only_planned_halves_where_other_sizes_are_refused(folder: Path) -> None:
    fields = ASKED | {"two_stages": True}
    with pytest.raises(ApiError, match="half of the size: 64x32 with 9 frames is not among") as refused:
        parse_video_request(fields, rules(folder, other_shapes="refuse"))
    assert refused.value.param == "two_stages"
    both = (*SHAPES, Shape(width=64, height=32, frames=9, steps=30))
    assert parse_video_request(fields, rules(folder, other_shapes="refuse", shapes=both)).all_steps == 40


def test_flags_of_generate_are_the_fields(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    generate.add_arguments(parser)
    common = ["--model-path", "m", "--prompt", "a"]
    flags = ["--output", "a.mp4", "--two-stages", "true", "--second-stage-steps", "6"]
    body = generate._body(parser.parse_args([*common, *flags]))
    assert parse_video_request(body, rules(folder)).second_stage_steps == 6
    pictures = ["generate", "--model-path", "demo", "--prompt", "a", "--output", str(folder / "a.png")]
    assert main([*pictures, "--offline", "--two-stages", "true"]) == 2
    assert "--two-stages is for clips; demo draws pictures." in capsys.readouterr().err


def test_clips_in_two_stages_have_a_pace_of_their_own(folder: Path) -> None:
    plan = plan_for(moved(folder), shapes=SHAPES)
    plan = plan.model_copy(
        update={"time": TimeForecast(per_forward_seconds=1, per_step_seconds=1, per_request_seconds=30)}
    )
    pace = Pace(plan)
    once = parse_video_request(ASKED, rules(folder))
    twice = parse_video_request(ASKED | {"two_stages": True}, rules(folder))
    assert (pace.seconds(once), pace.seconds(twice)) == (30, 40)
    pace.learn(twice, 20)
    assert (pace.seconds(once), pace.seconds(twice)) == (30, 20)


def test_a_repository_is_fetched_with_the_upsampler_that_its_index_does_not_list(folder: Path) -> None:
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    model = RemoteModel(
        name="Lightricks/LTX-2",
        commit="0" * 40,
        files={name: RemoteFile(name, path.stat().st_size, None) for name, path in files.items()},
    )
    index = json.loads((folder / "model_index.json").read_text())
    assert "latent_upsampler" not in index
    chosen = choose(model, lambda file: files[file.path].read_bytes(), None)
    assert {name for name in chosen if name.startswith("latent_upsampler/")} == {
        "latent_upsampler/config.json",
        "latent_upsampler/diffusion_pytorch_model.safetensors",
    }
