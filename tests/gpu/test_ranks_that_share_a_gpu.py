"""The splits of a transformer with CUDA tensors: two ranks share one GPU over gloo, a group of one rank
shards over NCCL, and where there are two GPUs each of two ranks has its own, over NCCL.

It proves what the CPU cannot, that hooks, streams and compiled blocks of each layout work on a GPU; how fast
they are it does not. Run by `make test-gpu`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from builders.parity_cases import Kind, case
from builders.parity_families import PARITY, write_folder
from builders.parity_ranks import Case, Drawn, draw_cases
from builders.parity_reference import Reference, apart
from diffusion_runtime.models.catalog import claims_of_folder
from diffusion_runtime.planning.documents import Layout

FAMILIES = [name for name, family in PARITY.items() if family.like is None]
TOLERANCE = 2e-3
"""Of latents whose standard deviation is about 1, in float32: the reference is drawn on the CPU."""
SLACK_BYTES = 4 * 2**20
"""Beyond the weights: tensors are rounded up to 512 bytes, schedules and positions are small."""
TWO = {
    "cfg": Layout(cfg=2),
    "cfg+fsdp": Layout(cfg=2, fsdp=True),
    "ulysses": Layout(ulysses=2),
    "ulysses+fsdp": Layout(ulysses=2, fsdp=True),
    "ring": Layout(ring=2),
    "tensor": Layout(tensor=2),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pipelines")


def on_the_gpu(name: str, folder: Path, kind: Kind) -> Case:
    made = case(name, folder, kind)
    return made.model_copy(update={"execution": made.execution.model_copy(update={"device": "cuda"})})


def check(drawn: list[Drawn], reference: Reference, kind: Kind) -> None:
    for rank in drawn:
        difference = apart(rank, reference.float32)
        allocated, weights = int(rank["allocated"]), int(rank["weights"])
        print(
            f"{kind.name}: {difference:.1e}, {allocated / 2**20:.1f} MiB, weights {weights / 2**20:.1f} MiB"
        )
        assert difference <= TOLERANCE
        assert weights <= allocated <= weights + SLACK_BYTES
        assert int(rank["held"]) == int(rank["held after"])


@pytest.mark.parametrize("layout", TWO)
@pytest.mark.parametrize("name", FAMILIES)
def test_two_ranks_on_one_gpu(name: str, layout: str, folder: Path, tmp_path: Path) -> None:
    pipeline = write_folder(name, folder)
    axes = set(claims_of_folder(pipeline).correct_axes)
    if not set(layout.split("+")) <= axes:
        pytest.skip(f"{name} claims no {layout}")
    kind = Kind(TWO[layout], "resident")
    reference = Reference(name, pipeline)
    ((_, drawn),) = draw_cases([on_the_gpu(name, pipeline, kind)], 2, tmp_path, "cuda")
    check(drawn, reference, kind)
    if TWO[layout].fsdp:
        check_shards(drawn)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", FAMILIES)
def test_two_ranks_on_two_gpus(name: str, compiled: bool, folder: Path, tmp_path: Path) -> None:
    """Every layout of two ranks over NCCL; sliced matrices cannot be compiled."""
    pipeline = write_folder(name, folder)
    axes = set(claims_of_folder(pipeline).correct_axes)
    layouts = [split for words, split in TWO.items() if set(words.split("+")) <= axes]
    kinds = [
        Kind(split, "resident", compiled=compiled) for split in layouts if not (compiled and split.tensor > 1)
    ]
    reference = Reference(name, pipeline)
    cases = [on_the_gpu(name, pipeline, kind) for kind in kinds]
    for kind, (_, drawn) in zip(kinds, draw_cases(cases, 2, tmp_path, "nccl"), strict=True):
        check(drawn, reference, kind)
        assert max(int(rank["compiled late"]) for rank in drawn) == 0
        if kind.layout.fsdp:
            check_shards(drawn)


def check_shards(drawn: list[Drawn]) -> None:
    whole = sum(int(rank["held"]) for rank in drawn)
    assert max(int(rank["held"]) for rank in drawn) < 0.6 * whole


@pytest.mark.parametrize("name", FAMILIES)
def test_one_rank_over_nccl_shards_and_compiles(name: str, folder: Path, tmp_path: Path) -> None:
    pipeline = write_folder(name, folder)
    kind = Kind(Layout(fsdp=True), "resident", compiled=True)
    ((_, drawn),) = draw_cases([on_the_gpu(name, pipeline, kind)], 1, tmp_path, "cuda")
    check(drawn, Reference(name, pipeline), kind)
    assert int(drawn[0]["compiled late"]) == 0


def test_this_machine_has_a_gpu() -> None:
    assert torch.cuda.is_available(), "no NVIDIA GPU answers; these tests are for a machine that has one"
