"""Layouts of clips draw the latents of plain diffusers, on the CPU over gloo: what differs from pictures, as
there are two transformers in turn, channels of a first picture, sound, sequences of frames.

Tolerance on latents (standard deviation about 1): 5e-5 in float32, as splits sum in another order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from builders.parity_families import PARITY, plain_latents, write_folder
from builders.parity_ranks import Case, Drawn, draw_cases
from diffusion_runtime.loading.folder import open_folder
from diffusion_runtime.planning.documents import Execution, Layout, Residency
from engine.plans import cpu_execution

CLOSE = 5e-5
STREAMED = Residency(mode="layerwise", prefetch_blocks=1, resident_blocks=1)
MOVED = Residency(mode="component")
RESIDENT = Residency(mode="resident")
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)")]

CASES: dict[str, tuple[str, Layout, Residency]] = {
    "wan: ring, moved": ("wan", Layout(ring=2), MOVED),
    "wan-i2v: cfg fsdp": ("wan-i2v", Layout(cfg=2, fsdp=True), RESIDENT),
    "wan-2.2: cfg, moved": ("wan-2.2", Layout(cfg=2), MOVED),
    "wan-2.2: ulysses fsdp": ("wan-2.2", Layout(ulysses=2, fsdp=True), RESIDENT),
    "ltx-2: cfg, streamed": ("ltx-2", Layout(cfg=2), STREAMED),
    "ltx-2: cfg fsdp": ("ltx-2", Layout(cfg=2, fsdp=True), RESIDENT),
}
FAMILIES = sorted({family for family, _, _ in CASES.values()})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("folders")
    return {name: write_folder(name, root) for name in FAMILIES}


@pytest.fixture(scope="module")
def drawn(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Drawn]]:
    """By case, every rank's latents."""
    cases = [
        Case(name=name, pipeline=family, folder=str(folder), execution=split(folder, layout, transformers))
        for name, (family, layout, transformers) in CASES.items()
        for folder in (folders[family],)
    ]
    return dict(draw_cases(cases, 2, tmp_path_factory.mktemp("ranks")))


@pytest.fixture(scope="module")
def plain(folders: dict[str, Path]) -> dict[str, Drawn]:
    return {name: plain_latents(name, folder, torch.float32) for name, folder in folders.items()}


def split(folder: Path, layout: Layout, transformers: Residency) -> Execution:
    kinds = open_folder(folder).kinds
    residency = {name: transformers if kind == "transformer" else MOVED for name, kind in kinds.items()}
    return cpu_execution(
        layout=layout,
        gpus_per_replica=layout.ranks,
        residency=residency,
        dtype=dict.fromkeys(kinds, "float32"),
    )


@pytest.mark.parametrize("name", CASES)
def test_every_rank_has_the_latents_of_plain_diffusers(name: str, drawn: Any, plain: Any) -> None:
    family = CASES[name][0]
    for latents in drawn[name]:
        for request in PARITY[family].requests():
            difference = (latents[request] - plain[family][request]).abs().max().item()
            assert difference <= CLOSE, request


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_and_prompts_matter(family: str, plain: Any) -> None:
    """Else equal latents would prove nothing."""
    latents = plain[family]
    assert (latents["guided"] - latents["plain"]).abs().max() > 0.01
    assert 0.3 < latents["guided"].std() < 3
