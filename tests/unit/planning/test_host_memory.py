"""Offload without host memory is no plan."""

from __future__ import annotations

from builders.asking import Answers, Nodes, Plans

GIB = 2**30


def test_missing_host_memory_is_named(answer: Answers, gpus: Nodes, qwen: str) -> None:
    refused = answer(qwen, gpus("RTX-4090", host_free_bytes=20 * GIB))
    assert refused.reason == "InsufficientHostMemory"
    assert "host memory" in refused.message
    assert refused.shortfall_bytes > 30 * GIB


def test_enough_host_memory_is_a_plan(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus("RTX-4090", host_free_bytes=64 * GIB))
    assert found.memory.host_bytes <= 64 * GIB


def test_resident_plans_need_no_host_copy(plan: Plans, gpus: Nodes, qwen: str) -> None:
    assert plan(qwen, gpus("H200", host_free_bytes=1 * GIB)).memory.host_bytes < 4 * GIB
