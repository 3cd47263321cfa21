"""Every layout and residency that a family claims draws the latents of one rank of plain diffusers, on the
CPU over gloo: a cover of pairs. tests/full/parity runs the whole matrix; builders.parity_cases has the
tolerances.

One process group serves all cases of a rank count. Weights that are not in use are NaN.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from builders.parity_cases import Kind, case, claims, few_kinds
from builders.parity_families import PARITY, write_folder
from builders.parity_ranks import Drawn, draw_cases
from builders.parity_reference import Reference
from diffusion_runtime.models.folder import component_tensors
from diffusion_runtime.planning.documents import Layout

PIPELINES = [name for name, family in PARITY.items() if family.like is None]
"""The whole matrix also has those that are like one of these."""
COMPILED = [
    ("qwen-image", Kind(Layout(ulysses=2), "component", compiled=True)),
    *((name, Kind(Layout(cfg=2), "resident", compiled=True)) for name in PIPELINES if name != "qwen-image"),
]
"""Compiled shards are served in test_layouts_served."""
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)"),
    pytest.mark.timeout(900),  # the first test draws for all
]


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reference]:
    parent = tmp_path_factory.mktemp("pipelines")
    return {name: Reference(name, write_folder(name, parent)) for name in PIPELINES}


@pytest.fixture(scope="module")
def kinds(references: dict[str, Reference]) -> list[tuple[str, Kind]]:
    found = [
        (name, kind)
        for turn, name in enumerate(PIPELINES)
        for kind in few_kinds(claims(references[name].folder), turn)
    ]
    return found + (COMPILED if shutil.which("g++") else [])


@pytest.fixture(scope="module")
def drawn(
    references: dict[str, Reference], kinds: list[tuple[str, Kind]], tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[str, Kind, list[Drawn]]]:
    found = []
    for ranks in (2, 4):
        folder: Path = tmp_path_factory.mktemp(f"ranks{ranks}")
        chosen = [(name, kind) for name, kind in kinds if kind.layout.ranks == ranks]
        cases = [case(name, references[name].folder, kind) for name, kind in chosen]
        results = draw_cases(cases, ranks, folder)
        found += [(*chosen[number], latents) for number, (_, latents) in enumerate(results)]
    return found


def test_every_rank_has_the_latents_of_one_plain_rank(
    drawn: list[tuple[str, Kind, list[Drawn]]], references: dict[str, Reference]
) -> None:
    wrong = []
    for name, kind, latents in drawn:
        compared = references[name].compare(kind, latents)
        if not compared.passed:
            wrong.append(f"{name}: {kind.name}: {compared}")
    assert not wrong


def test_no_request_pays_for_compilation(drawn: list[tuple[str, Kind, list[Drawn]]]) -> None:
    assert not [
        f"{name}: {kind.name}" for name, kind, ranks in drawn for rank in ranks if rank["compiled late"]
    ]


def test_a_rank_keeps_only_its_share(
    drawn: list[tuple[str, Kind, list[Drawn]]], references: dict[str, Reference]
) -> None:
    """FSDP shards everything; a tensor-parallel rank holds a part of its matrices."""
    sharded = 0
    for name, kind, ranks in drawn:
        elements = claims(references[name].folder).component("transformer").elements
        whole = elements * (2 if kind.dtype == "bfloat16" else 4)
        for rank in ranks:
            assert rank["held"] == rank["held after"]
            if kind.layout.fsdp:
                sharded += 1
                assert rank["held"].item() < whole / kind.layout.ranks * 1.05
            if kind.layout.tensor > 1:
                assert rank["held"].item() < whole * 0.85
    assert sharded


def test_a_rank_reads_only_its_shard_of_the_transformer(
    drawn: list[tuple[str, Kind, list[Drawn]]], references: dict[str, Reference]
) -> None:
    sharded = [(name, kind, ranks) for name, kind, ranks in drawn if kind.layout.fsdp]
    assert sharded
    for name, kind, ranks in sharded:
        folder = references[name].folder
        files = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
        stored = sum(entry.stored_bytes for entry in component_tensors(folder / "transformer").values())
        left_to_others = stored * (1 - 1 / kind.layout.ranks)
        most = files - 0.9 * left_to_others
        assert all(rank["read"].item() < most for rank in ranks), f"{name}: {kind.name}"


def test_the_cover_has_every_axis_with_every_residency(kinds: list[tuple[str, Kind]]) -> None:
    pairs = {(axis, placement) for _, kind in kinds for axis in kind.covers for placement in [kind.placement]}
    wanted = {(axis, "component") for axis in ("cfg", "ulysses", "ring")}
    wanted |= {(axis, "layerwise") for axis in ("cfg", "ulysses", "ring")}
    wanted |= {(axis, "encoders") for axis in ("fsdp", "tensor")}
    assert not wanted - pairs


def test_guidance_and_prompts_matter(references: dict[str, Reference]) -> None:
    """Else equal latents would prove nothing."""
    for name, reference in references.items():
        guided, plain = reference.float32["guided"], reference.float32["plain"]
        assert (guided - plain).abs().max() > 0.1, name
        assert 0.3 < guided.std() < 3, name
