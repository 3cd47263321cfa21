"""Every layout the engine claims draws the latents of one plain rank, on the CPU over gloo; pairwise with
residency, dtype and compilation. One process group serves all cases of a rank count.

Tolerance on latents (standard deviation about 1): none where only the place of weights differs (CFG parallel,
FSDP, layerwise); 5e-5 in float32 for Ulysses and compiled blocks, which sum in another order.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from diffusion_runtime.models.folder import component_tensors
from diffusion_runtime.planning.documents import CompileSettings, Execution, Layout, Residency
from engine.parity_ranks import draw_cases, latents_of, requests
from engine.plans import COMPONENTS, DEMO, cpu_execution

EXACT, CLOSE = 0.0, 5e-5
STREAMED = Residency(mode="layerwise", prefetch_blocks=1, resident_blocks=2)
MOVED = Residency(mode="component")
BFLOAT16 = dict.fromkeys(COMPONENTS, "bfloat16")
COMPILED = CompileSettings(enabled=True)
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning:(diffusers|transformers|torch)")]


def case(layout: Layout, transformer: Residency | None = None, **changes: Any) -> Execution:
    residency = {name: Residency(mode="resident") for name in COMPONENTS}
    if transformer is not None:
        residency["transformer"] = transformer
    return cpu_execution(layout=layout, gpus_per_replica=layout.ranks, residency=residency, **changes)


TWO = {
    "cfg": (case(Layout(cfg=2)), EXACT),
    "cfg layerwise": (case(Layout(cfg=2), STREAMED), EXACT),
    "cfg fsdp": (case(Layout(cfg=2, fsdp=True)), EXACT),
    "cfg fsdp bfloat16": (case(Layout(cfg=2, fsdp=True, fsdp_blocks_per_unit=4), dtype=BFLOAT16), EXACT),
    "ulysses component": (case(Layout(ulysses=2), MOVED), CLOSE),
    "ulysses layerwise": (case(Layout(ulysses=2), STREAMED), CLOSE),
    "ulysses fsdp": (case(Layout(ulysses=2, fsdp=True, fsdp_blocks_per_unit=2)), CLOSE),
}
COMPILED_TWO = {
    "cfg fsdp compiled": (case(Layout(cfg=2, fsdp=True), compile=COMPILED), CLOSE),
    "ulysses component compiled": (case(Layout(ulysses=2), MOVED, compile=COMPILED), CLOSE),
}
FOUR = {
    "cfg ulysses fsdp": (case(Layout(cfg=2, ulysses=2, fsdp=True)), CLOSE),
}
if shutil.which("g++"):
    TWO |= COMPILED_TWO
SHARDED = [name for name, (execution, _) in (TWO | FOUR).items() if execution.layout.fsdp]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, torch.Tensor]]]:
    results: dict[str, list[dict[str, torch.Tensor]]] = {}
    for ranks, cases in ((2, TWO), (4, FOUR)):
        folder: Path = tmp_path_factory.mktemp(f"ranks{ranks}")
        results |= draw_cases({name: execution for name, (execution, _) in cases.items()}, ranks, folder)
    return results


@pytest.fixture(scope="module")
def plain() -> dict[str, dict[str, torch.Tensor]]:
    """One plain rank, by dtype."""
    torch.set_num_threads(1)
    return {"float32": latents_of(cpu_execution()), "bfloat16": latents_of(cpu_execution(dtype=BFLOAT16))}


@pytest.mark.parametrize("name", [*TWO, *FOUR])
def test_every_rank_has_the_latents_of_one_plain_rank(
    name: str, drawn: dict[str, list[dict[str, torch.Tensor]]], plain: dict[str, dict[str, torch.Tensor]]
) -> None:
    execution, tolerance = (TWO | FOUR)[name]
    expected = plain[execution.dtype["transformer"]]
    for latents in drawn[name]:
        for request in requests():
            difference = (latents[request] - expected[request]).abs().max().item()
            assert difference <= tolerance, request
        assert latents["compiled late"] == 0, "a request must never pay for compilation"


@pytest.mark.parametrize("name", SHARDED)
def test_a_rank_keeps_only_its_shard(
    name: str, drawn: dict[str, list[dict[str, torch.Tensor]]], plain: dict[str, dict[str, torch.Tensor]]
) -> None:
    execution, _ = (TWO | FOUR)[name]
    share = plain[execution.dtype["transformer"]]["held"] / execution.layout.ranks
    for latents in drawn[name]:
        assert latents["held"] == share
        assert latents["held after"] == share


@pytest.mark.parametrize("name", SHARDED)
def test_a_rank_reads_only_its_shard_of_the_transformer(
    name: str, drawn: dict[str, list[dict[str, torch.Tensor]]], plain: dict[str, dict[str, torch.Tensor]]
) -> None:
    execution, _ = (TWO | FOUR)[name]
    stored = sum(entry.stored_bytes for entry in component_tensors(DEMO / "transformer").values())
    whole = plain[execution.dtype["transformer"]]["read"].item()
    for latents in drawn[name]:
        assert latents["read"] == whole - stored + stored // execution.layout.ranks


def test_guidance_and_prompts_matter(plain: dict[str, dict[str, torch.Tensor]]) -> None:
    """Else equal latents would prove nothing."""
    latents = plain["float32"]
    assert (latents["guided"] - latents["plain"]).abs().max() > 0.1
    assert 0.3 < latents["guided"].std() < 3
