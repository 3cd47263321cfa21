"""The committed demo model draws what prompts ask for, and its score belongs to the committed weights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2] / "runtime_image"
FOLDER = ROOT / "models" / "demo"


@pytest.fixture(scope="module", autouse=True)
def demo_model_importable() -> Iterator[None]:
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def pipeline(demo_model_importable: None) -> Any:
    from demo_model.score import load

    torch.set_num_threads(1)
    return load(FOLDER)


@pytest.mark.parametrize(
    ("prompt", "shape", "colour", "background"),
    [
        ("a red circle on a blue background", "circle", "red", "blue"),
        ("a large yellow star on a black background", "star", "yellow", "black"),
        ("draw a green square on white", "square", "green", "white"),
        ("A purple heart against a yellow background.", "heart", "purple", "yellow"),
        ("an orange triangle", "triangle", "orange", "white"),
    ],
)
def test_draws_the_colour_shape_and_background_asked_for(
    pipeline: Any, prompt: str, shape: str, colour: str, background: str
) -> None:
    from demo_model.judge import look
    from demo_model.score import picture

    seen = look(picture(pipeline, prompt, seed=3))
    assert (seen.shape, seen.colour, seen.background) == (shape, colour, background)


def test_puts_the_shape_where_the_prompt_says(pipeline: Any) -> None:
    from demo_model.judge import look
    from demo_model.score import picture

    seen = look(picture(pipeline, "a small red square in the bottom left corner on white", seed=5))
    assert (seen.shape, seen.position) == ("square", "bottom left")


def test_the_same_seed_gives_the_same_picture_and_another_seed_another(pipeline: Any) -> None:
    from demo_model.score import picture

    first, again, other = (picture(pipeline, "a blue ring", seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_template_is_cut_exactly_before_the_prompt(pipeline: Any) -> None:
    head = pipeline.prompt_template_encode.split("{}")[0]
    assert len(pipeline.tokenizer(head).input_ids) == pipeline.prompt_template_encode_start_idx


def test_the_judge_tells_every_shape_and_colour_apart() -> None:
    from demo_model.judge import look
    from demo_model.pictures import draw, encode_scenes
    from demo_model.scenes import COLOURS, SHAPES, Item, Scene

    scenes = [
        Scene(
            (Item(shape, colour, "medium", 0.5, 0.5, 0.2),), "white" if colour != "white" else "black", "", ""
        )
        for index, shape in enumerate(SHAPES)
        for colour in (COLOURS[index], COLOURS[index + 2])
    ]
    pixels = (
        draw(*encode_scenes(scenes), 128, 128).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    )
    seen = [(one.shape, one.colour) for one in map(look, pixels)]
    assert seen == [(scene.items[0].shape, scene.items[0].colour) for scene in scenes]


def test_the_committed_score_was_measured_on_the_committed_weights() -> None:
    from demo_model.score import weights_hash

    score = json.loads((FOLDER / "score.json").read_text())
    assert score["weights_sha256"] == weights_hash(FOLDER)
    assert score["colour_and_shape_right"] >= 0.9 * score["prompts"]


def test_the_weights_stay_small() -> None:
    assert sum(file.stat().st_size for file in FOLDER.glob("*/*.safetensors")) <= 8_000_000
