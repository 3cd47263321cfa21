"""Cases that other sizers get wrong: small GPUs, mixed fleets, exact fits, host memory, greed, float32."""

from __future__ import annotations

from pathlib import Path

import pytest

from builders.asking import Answers, Modes, Nodes, Plans
from builders.model_folder import write_pipeline
from diffusion_runtime.cli import main
from diffusion_runtime.models.catalog import facts_from_folder
from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.documents import Plan

GIB = 2**30


@pytest.mark.parametrize("product", ["RTX-4090", "L4", "A10"])
def test_a_20_b_image_model_on_one_24_gib_gpu(plan: Plans, gpus: Nodes, qwen: str, product: str) -> None:
    found = plan(qwen, gpus(product))
    assert found.gpus_per_replica == 1
    assert found.memory.peak_per_gpu_bytes <= 0.95 * found.memory.free_per_gpu_bytes
    assert found.residency["transformer"].mode == "layerwise"


def test_a_mixed_fleet_is_planned_product_by_product(capsys: pytest.CaptureFixture[str]) -> None:
    fleet = ["--gpu", "L4", "--gpu", "H200", "--gpu", "L4", "--gpu", "RTX-4090", "--output", "json"]
    assert main(["plan", "--model-path", "Qwen/Qwen-Image", *fleet]) == 0
    found = Plan.model_validate_json(capsys.readouterr().out)
    assert (found.gpu_product, found.gpus_per_replica) == ("H200", 1)
    assert all(r.mode == "resident" for r in found.residency.values())


def test_an_exact_fit_is_a_plan_and_one_byte_less_is_none(
    plan: Plans, answer: Answers, gpus: Nodes, qwen: str
) -> None:
    free = plan(qwen, gpus("H200"), mode="memory").memory.peak_per_gpu_bytes
    exact = plan(qwen, gpus("H200", free_bytes=[free]), mode="memory", memory_reserve_bytes=0)
    assert exact.memory.peak_per_gpu_bytes == free
    refused = answer(qwen, gpus("H200", free_bytes=[free - 1]), mode="memory", memory_reserve_bytes=0)
    assert (refused.reason, refused.shortfall_bytes) == ("InsufficientMemory", 1)


@pytest.mark.parametrize("mode", ["auto", "memory"])
def test_a_host_too_small_for_what_is_offloaded(answer: Answers, gpus: Nodes, qwen: str, mode: str) -> None:
    refused = answer(qwen, gpus("RTX-4090", host_free_bytes=8 * GIB), mode=mode)
    assert refused.reason == "InsufficientHostMemory"
    assert refused.shortfall_bytes > 10 * GIB
    assert "of host memory" in refused.message
    enough = answer(qwen, gpus("RTX-4090", host_free_bytes=8 * GIB + refused.shortfall_bytes), mode=mode)
    assert isinstance(enough, Plan)


def test_four_replicas_on_four_gpus_get_one_each(plan: Plans, gpus: Nodes, qwen: str) -> None:
    four = gpus(*["H200"] * 4)
    assert plan(qwen, four, replicas=4).gpus_per_replica == 1
    assert plan(qwen, four, replicas=2).gpus_per_replica == 2
    assert plan(qwen, [gpus("H200", "H200")] * 2, replicas=4).gpus_per_replica == 1


@pytest.mark.parametrize(
    "model", ["Qwen/Qwen-Image", "Wan-AI/Wan2.1-T2V-14B-Diffusers", "Tongyi-MAI/Z-Image"]
)
def test_memory_mode_on_eight_gpus_takes_one(plan: Plans, gpus: Nodes, model: str) -> None:
    assert plan(model, gpus(*["H200"] * 8), mode="memory").gpus_per_replica == 1


def test_a_folder_in_float32_is_planned_in_the_dtype_that_is_loaded(
    tmp_path: Path, plan: Plans, gpus: Nodes
) -> None:
    stored = {
        dtype: facts_from_folder(write_pipeline(tmp_path / dtype, dtype=dtype)) for dtype in ("F32", "BF16")
    }
    wide, narrow = (plan(facts, gpus("H200")) for facts in stored.values())
    assert wide.memory.phases.denoise == narrow.memory.phases.denoise
    disk = [facts.component("transformer").stored_bytes for facts in stored.values()]
    assert disk[0] == 2 * disk[1]  # type: ignore[operator]


def test_one_busy_gpu_does_not_spoil_the_free_ones(
    plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes
) -> None:
    node: GpuNode = gpus("H200", "H200", "H200", free_bytes=[10 * GIB, None, None])
    found = plan(qwen, node)
    assert found.gpus_per_replica == 2
    assert set(modes_of(found).values()) == {"resident"}
