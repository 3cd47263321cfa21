"""Measures how often the demo model draws what the prompt says, on the CPU through the real pipeline.

`python -m demo_model.score models/demo --sheet ../docs/images/demo-model.png` writes score.json beside the
weights and, if asked, one sheet of example pictures. Every prompt asks for a combination of shape, colour and
background that training never showed. Two-object prompts are reported beside the score, not in it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import QwenImagePipeline
from PIL import Image

from .judge import Pixels, Seen, look, look_for
from .scenes import COLOURS, POSITIONS, SHAPES, is_held_out

STEPS = 12
GUIDANCE = 2.5
SIDE = 128
PROMPTS = 64
PAIRS = 16
SHEET = (
    "a red circle on a blue background",
    "large yellow star in the top left corner",
    "a small green heart",
    "a purple ring on a black background",
    "a white moon on a blue background",
    "an orange triangle on the right",
    "a big pink diamond on a gray background",
    "a cyan cross",
    "a black square and a red heart",
    "a yellow star above a green circle on a purple background",
    "a tiny white circle in the bottom right corner on black",
    "a gray diamond on a yellow background",
    "a huge orange moon on a purple background",
    "a green ring at the top on a pink background",
    "a blue square to the left of an orange triangle",
    "a red star on a white background",
)


@dataclass(frozen=True)
class Asked:
    """One prompt and what its picture must show; `position` is '' where the prompt names none."""

    prompt: str
    shape: str
    colour: str
    background: str
    position: str


def held_out_prompts(count: int = PROMPTS, seed: int = 7) -> list[Asked]:
    """`count` different single-object prompts over held-out combinations; half of them name a place."""
    rng = np.random.default_rng(seed)
    combinations = [
        (shape, colour, behind)
        for shape in SHAPES
        for colour in COLOURS
        for behind in COLOURS
        if colour != behind and is_held_out(shape, colour, behind)
    ]
    asked = []
    for index in rng.permutation(len(combinations))[:count]:
        shape, colour, behind = combinations[int(index)]
        position = tuple(POSITIONS)[int(rng.integers(len(POSITIONS)))] if rng.random() < 0.5 else ""
        size = ("", "small ", "large ")[int(rng.integers(3))]
        noun = f"{size}{colour} {shape}"
        article = "an" if noun[0] in "aeiou" else "a"
        behind_article = "an" if behind[0] in "aeiou" else "a"
        prompt = f"{article} {noun}{_where(position)} on {behind_article} {behind} background"
        asked.append(Asked(prompt, shape, colour, behind, position))
    return asked


def _where(position: str) -> str:
    if not position:
        return ""
    if " " in position:
        return f" in the {position} corner"
    return (
        f" {'in' if position == 'centre' else 'at' if position in ('top', 'bottom') else 'on'} the {position}"
    )


def load(folder: Path) -> Any:
    """The pipeline in float32 on the CPU."""
    pipeline = QwenImagePipeline.from_pretrained(folder, use_safetensors=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def picture(pipeline: Any, prompt: str, seed: int, guidance: float = GUIDANCE) -> Pixels:
    """One picture uint8 [128, 128, 3] with the demo's defaults."""
    result = pipeline(
        prompt,
        negative_prompt=" ",
        true_cfg_scale=guidance,
        width=SIDE,
        height=SIDE,
        num_inference_steps=STEPS,
        generator=torch.Generator().manual_seed(seed),
    )
    return np.asarray(result.images[0].convert("RGB"), dtype=np.uint8)


def weights_hash(folder: Path) -> str:
    """SHA-256 over every safetensors file of the folder, in the order of their paths."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*/*.safetensors")):
        digest.update(str(file.relative_to(folder)).encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def measure(pipeline: Any, guidance: float) -> dict[str, Any]:
    """Counts over the held-out prompts and the pairs; `misses` names each failed prompt and what was seen."""
    right = backgrounds = placed = named = 0
    misses: list[str] = []
    for seed, asked in enumerate(held_out_prompts()):
        seen = look(picture(pipeline, asked.prompt, seed, guidance))
        good = seen.colour == asked.colour and seen.shape == asked.shape
        right += good
        backgrounds += seen.background == asked.background
        named += asked.position != ""
        placed += asked.position != "" and seen.position == asked.position
        if not good or seen.background != asked.background:
            misses.append(f"{asked.prompt}: {seen}")
    return {
        "prompts": PROMPTS,
        "colour_and_shape_right": right,
        "background_right": backgrounds,
        "position_named": named,
        "position_right": placed,
        "pairs": PAIRS,
        "pairs_right": _measure_pairs(pipeline, guidance, misses),
        "misses": misses,
    }


def _measure_pairs(pipeline: Any, guidance: float, misses: list[str]) -> int:
    rng = np.random.default_rng(11)
    right = 0
    for seed in range(PAIRS):
        one, two = (SHAPES[int(index)] for index in rng.integers(len(SHAPES), size=2))
        first, second, behind = (COLOURS[int(index)] for index in rng.permutation(len(COLOURS))[:3])
        prompt = f"a {first} {one} next to a {second} {two} on a {behind} background".replace(
            "a orange", "an orange"
        )
        pixels = picture(pipeline, prompt, seed, guidance)
        seen: list[Seen] = [look_for(pixels, first), look_for(pixels, second)]
        good = [item.shape for item in seen] == [one, two]
        right += good
        if not good:
            misses.append(f"{prompt}: {seen}")
    return right


def draw_sheet(pipeline: Any, file: Path, guidance: float) -> None:
    """Sixteen example pictures, four by four, two pixels apart."""
    gap = 2
    sheet = Image.new("RGB", (4 * (SIDE + gap) + gap, 4 * (SIDE + gap) + gap), "white")
    for seed, prompt in enumerate(SHEET):
        place = (gap + seed % 4 * (SIDE + gap), gap + seed // 4 * (SIDE + gap))
        sheet.paste(Image.fromarray(picture(pipeline, prompt, seed, guidance)), place)
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--guidance", type=float, default=GUIDANCE)
    parser.add_argument("--dry", action="store_true", help="print, write nothing")
    arguments = parser.parse_args()
    pipeline = load(arguments.folder)
    score = {
        "weights_sha256": weights_hash(arguments.folder),
        "width": SIDE,
        "height": SIDE,
        "steps": STEPS,
        "true_cfg_scale": arguments.guidance,
        "dtype": "float32",
        **measure(pipeline, arguments.guidance),
    }
    text = json.dumps(score, indent=2) + "\n"
    print(text)
    if arguments.dry:
        return
    (arguments.folder / "score.json").write_text(text)
    if arguments.sheet:
        draw_sheet(pipeline, arguments.sheet, arguments.guidance)


if __name__ == "__main__":
    main()
