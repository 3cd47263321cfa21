"""Every family x every layout of 1, 2 and 4 ranks and every residency that it claims, as plain diffusers.

Case by case into docs/results/parity.json: a run that was cut off goes on. Cases of older sources are
dropped. At the end the planner's table is written; what failed is then not offered.

On a machine with many cores, in 64 pieces, 20 at a time, merged at the end (builders.parity_shards):

    PYTHONPATH=tests:runtime_image/src python -m builders.parity_shards 64 --jobs 20

or piece by piece, on as many machines as there are, and then merged from docs/results/parity-parts:

    DIFFUSION_PARITY_SHARD=3/16 OMP_NUM_THREADS=1 python -m pytest --basetemp=/tmp/parity-3 tests/full/parity
    PYTHONPATH=tests:runtime_image/src python -m builders.parity_shards merge

Any Python from 3.11 on serves that has the engine's dependencies (torch >= 2.13), pytest with pytest-asyncio
and pytest-timeout, and `runtime_image/src` on PYTHONPATH, installed in any way; compiled cases need g++.
Nothing is downloaded.
"""

from __future__ import annotations

import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from builders.parity_cases import Kind, case, claims
from builders.parity_families import PARITY, write_folder
from builders.parity_ranks import draw_cases
from builders.parity_reference import Reference
from builders.parity_result import RESULT, Case, read_cases, write_cases
from builders.parity_shards import every_case, finish, shard_wanted

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)"),
    pytest.mark.timeout(7200),
]
RANKS = (1, 2, 4)


@pytest.fixture(scope="module")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipelines")


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("name", PARITY)
def test_one_plain_rank(name: str, ranks: int, pipelines: Path, tmp_path: Path) -> None:
    """Draws what is missing; a case that ends its group has failed, and the next one gets a new group."""
    folder = write_folder(name, pipelines)
    cases = every_case(pipelines)
    if shard := shard_wanted():
        cases = shard.chosen(cases)
    kinds = [kind for its, kind in cases if its == name and kind.layout.ranks == ranks]
    if not kinds:
        pytest.skip("in another piece")
    reference = Reference(name, folder)
    family = claims(folder).model.family
    for attempt in range(len(kinds)):
        results = known()
        missing = [kind for kind in kinds if f"{name}: {kind.name}" not in results]
        if not missing:
            break
        group = tmp_path / str(attempt)
        group.mkdir()
        draw(missing, reference, family, group)
    results = known()
    wrong = [
        results[f"{name}: {kind.name}"] for kind in kinds if not results[f"{name}: {kind.name}"]["passed"]
    ]
    assert not wrong


def own_file() -> Path:
    """Where this run keeps what it draws."""
    shard = shard_wanted()
    return shard.file if shard else RESULT


def known() -> dict[str, Case]:
    return read_cases() | read_cases(own_file())


def draw(kinds: list[Kind], reference: Reference, family: str, group: Path) -> None:
    """Until all are drawn or one has ended the group."""
    cases = [case(reference.pipeline, reference.folder, kind) for kind in kinds]
    remaining = iter(kinds)
    kind = kinds[0]
    start = time.monotonic()
    try:
        for _, latents in draw_cases(cases, kinds[0].layout.ranks, group):
            kind = next(remaining)
            compared = reference.compare(kind, latents)
            outcome = {
                "difference": float(f"{compared.difference:.3g}"),
                "tolerance": float(f"{compared.tolerance:.3g}"),
                "passed": compared.passed,
                "compiledLate": max(int(rank["compiled late"]) for rank in latents),
            }
            keep(reference.pipeline, family, kind, start, outcome)
            start = time.monotonic()
    except AssertionError as ended:
        broken = next(remaining, kind)
        keep(reference.pipeline, family, broken, start, {"passed": False, "words": str(ended)[-600:]})


def keep(pipeline: str, family: str, kind: Kind, start: float, outcome: dict[str, Any]) -> None:
    results = read_cases(own_file())
    results[f"{pipeline}: {kind.name}"] = {
        "family": family,
        "covers": list(kind.covers),
        "kind": "compiled" if kind.compiled else kind.dtype,
        "ranks": kind.layout.ranks,
        "seconds": round(time.monotonic() - start, 1),
        "drawnWith": drawn_with(),
        **outcome,
    }
    write_cases(results, own_file())


def drawn_with() -> str:
    """Versions, and what DIFFUSION_PARITY_NOTE says of the machine."""
    words = [f"{name} {version(name)}" for name in ("torch", "diffusers", "transformers")]
    return ", ".join(words + [note for note in [os.environ.get("DIFFUSION_PARITY_NOTE")] if note])


@pytest.mark.skipif(shard_wanted() is not None, reason="pieces are merged by builders.parity_shards")
def test_the_planner_is_told(pipelines: Path) -> None:
    finish(pipelines)
