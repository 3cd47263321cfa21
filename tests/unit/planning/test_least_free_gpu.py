"""The least-free GPU of a set decides what fits: a busy H200 is a small GPU."""

from __future__ import annotations

from builders.asking import Answers, Modes, Nodes, Plans

GIB = 2**30


def test_busy_gpu_makes_the_pair_small(plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes) -> None:
    pair = gpus("H200", "H200", free_bytes=[None, 20 * GIB])
    found = plan(qwen, pair, gpus_per_replica=2)
    assert found.memory.free_per_gpu_bytes == 20 * GIB
    assert found.memory.peak_per_gpu_bytes <= 20 * GIB * 0.95
    assert modes_of(found)["transformer"] == "layerwise"
    assert "20.0GiB free" in found.reasons[0]


def test_one_replica_on_one_gpu_takes_the_free_one(
    plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes
) -> None:
    pair = gpus("H200", "H200", free_bytes=[20 * GIB, None])
    found = plan(qwen, pair)
    assert found.gpus_per_replica == 1
    assert set(modes_of(found).values()) == {"resident"}


def test_reserve_is_kept_free(answer: Answers, plan: Plans, gpus: Nodes, qwen: str) -> None:
    exact = plan(qwen, gpus("H200"), mode="memory").memory.peak_per_gpu_bytes
    fits = gpus("H200", free_bytes=[exact])
    assert answer(qwen, fits, mode="memory", memory_reserve_bytes=0).to_dict()["mode"] == "memory"
    refused = answer(qwen, fits, mode="memory")
    assert refused.reason == "InsufficientMemory"
    assert abs(refused.shortfall_bytes - exact * 0.05) < 2
