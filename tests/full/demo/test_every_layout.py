"""The demo model draws one picture in every residency, bit for bit, and in every layout within 2/255 a pixel.

Writes docs/results/demo-layouts.json and .md. Residencies are drawn in this process; layouts of 2 and 4 ranks
go the whole way: plan file, server, real ranks over gloo, PNG. Everything is float32 on the CPU. Latents of
every family, with random weights, are the parity suite's.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from builders.kept_results import kept
from builders.parity_cases import PLACEMENTS, Kind, case, claims, layouts, placements, sliced_encoder_kinds
from diffusion_runtime.generation.build import build
from diffusion_runtime.generation.messages import PictureRequest
from diffusion_runtime.generation.picture import draw
from diffusion_runtime.planning.documents import Execution, Layout, Shape
from engine.plans import DEMO, plan_for
from engine.real_server import pixels, serving

REPOSITORY = Path(__file__).parents[3]
RESULT = REPOSITORY / "docs" / "results" / "demo-layouts.json"
TABLE = RESULT.with_suffix(".md")
COVERED = (
    *(
        f"runtime_image/src/diffusion_runtime/{room}"
        for room in ("generation", "loading", "parallel", "residency")
    ),
    "runtime_image/models/demo",
    "tests/builders/parity_cases.py",
    "tests/full/demo",
)
MOST_DIFFERENCE = 2
SIDE, STEPS = 128, 12
REQUESTS = tuple(
    PictureRequest(
        prompt=prompt,
        negative_prompt=" ",
        width=SIDE,
        height=SIDE,
        steps=STEPS,
        guidance_scale=scale,
        seed=seed,
    )
    for prompt, scale, seed in (
        ("a large red circle in the centre on a white background", 2.5, 3),
        ("a yellow star on a purple background", 2.5, 11),
        ("a small green square in the bottom left corner on white", 1.0, 5),
    )
)
FACTS = claims(DEMO)
RESIDENCIES = [Kind(Layout(), placement) for placement in PLACEMENTS]
LAYOUTS = [
    *(Kind(layout, "resident") for layout in layouts(FACTS.correct_axes) if layout.ranks > 1),
    *(
        kind
        for kind in sliced_encoder_kinds(FACTS)
        if (kind.dtype, kind.placement) == ("float32", "resident")
    ),
]
Pictures = list[np.ndarray[Any, Any]]


def input_hash() -> str:
    """Over what draws, the model and this suite."""
    digest = hashlib.sha256()
    files = [
        path
        for covered in map(REPOSITORY.joinpath, COVERED)
        for path in ([covered] if covered.is_file() else covered.rglob("*"))
        if path.is_file() and path.suffix in (".py", ".json", ".safetensors")
    ]
    for path in sorted(files):
        digest.update(str(path.relative_to(REPOSITORY)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="module")
def plain() -> Pictures:
    return in_process(execution_of(RESIDENCIES[0]))


def execution_of(kind: Kind) -> Execution:
    return case("demo", DEMO, kind).execution


def in_process(execution: Execution) -> Pictures:
    torch.set_num_threads(1)
    built = build(str(DEMO), execution, 0, torch.device("cpu"))
    drawn = [draw(built, request, lambda phase, step: None).pixels for request in REQUESTS]
    return [picture[0].numpy().astype(int) for picture in drawn if picture is not None]


def served(execution: Execution, folder: Path) -> Pictures:
    plan = plan_for(execution, shapes=(Shape(width=SIDE, height=SIDE, steps=STEPS),))
    with serving(plan, folder) as server:
        return [pixels(server.post(**fields_of(request))) for request in REQUESTS]


def fields_of(request: PictureRequest) -> dict[str, Any]:
    """The same request over HTTP; without guidance a negative prompt is refused."""
    guided = {"negative_prompt": request.negative_prompt} if request.guided else {}
    return guided | {
        "prompt": request.prompt,
        "seed": request.seed,
        "num_inference_steps": STEPS,
        "true_cfg_scale": request.guidance_scale,
        "size": f"{SIDE}x{SIDE}",
    }


def differences(drawn: Pictures, plain: Pictures) -> list[int]:
    """The largest of each picture, in 8-bit steps."""
    return [int(np.abs(one - other).max()) for one, other in zip(drawn, plain, strict=True)]


def test_the_pictures_differ_from_each_other(plain: Pictures) -> None:
    assert [np.ptp(picture) > 100 for picture in plain] == [True] * len(REQUESTS)
    assert min(differences([plain[0], plain[1]], [plain[1], plain[2]])) > 100


def test_every_placement_is_claimed() -> None:
    assert placements(FACTS, Layout()) == PLACEMENTS


@pytest.mark.parametrize("kind", RESIDENCIES[1:], ids=lambda kind: kind.name)
def test_bit_for_bit_in_every_residency(kind: Kind, plain: Pictures) -> None:
    found = differences(in_process(execution_of(kind)), plain)
    record(kind, found)
    assert found == [0] * len(REQUESTS)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", LAYOUTS, ids=lambda kind: kind.name)
def test_the_same_picture_in_every_layout(kind: Kind, plain: Pictures, tmp_path: Path) -> None:
    found = differences(served(execution_of(kind), tmp_path), plain)
    record(kind, found)
    assert max(found) <= MOST_DIFFERENCE


def record(kind: Kind, found: list[int]) -> None:
    fresh: dict[str, Any] = {"suite": "demo-layouts", "inputHash": input_hash(), "cases": {}}
    document = kept(RESULT, fresh)
    document["cases"][kind.name] = {"ranks": kind.layout.ranks, "differences": found}
    RESULT.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(page(document["cases"]), encoding="utf-8")


def page(cases: dict[str, Any]) -> str:
    lines = [
        "# The demo model in every residency and layout",
        "",
        "Written by `make test-full SUITE=demo`. The built-in model draws three pictures of "
        f"{SIDE} x {SIDE} in {STEPS} steps, two with guidance, in float32 on the CPU; ranks talk over "
        "gloo. The figures are the largest difference of any pixel from one plain rank with everything "
        f"resident, in steps of 255. Allowed are 0 in a residency and {MOST_DIFFERENCE} in a layout.",
        "",
        "| case | ranks | largest differences |",
        "|---|---|---|",
    ]
    order = {kind.name: number for number, kind in enumerate([*RESIDENCIES, *LAYOUTS])}
    lines += [
        f"| {name} | {cases[name]['ranks']} | {', '.join(map(str, cases[name]['differences']))} |"
        for name in sorted(cases, key=lambda name: order[name])
    ]
    missing = len(order) - 1 - len(cases)
    if missing:
        lines += ["", f"{missing} cases have not run with these sources."]
    return "\n".join(lines) + "\n"
