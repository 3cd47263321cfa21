"""speed keeps everything resident, takes the fastest layout, and warns instead of rejecting for memory."""

from __future__ import annotations

from builders.asking import Modes, Nodes, Plans


def test_warns_of_the_shortfall_and_plans_all_the_same(
    plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes
) -> None:
    found = plan(qwen, gpus("RTX-4090"), mode="speed")
    assert set(modes_of(found).values()) == {"resident"}
    assert found.memory.peak_per_gpu_bytes > found.memory.free_per_gpu_bytes
    assert any("short of GPU memory" in warning for warning in found.warnings)


def test_offers_smaller_fallbacks(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus("RTX-4090"), mode="speed")
    assert found.fallbacks[-1].peak_per_gpu_bytes < found.memory.free_per_gpu_bytes


def test_explicit_offload_still_wins(plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes) -> None:
    found = plan(qwen, gpus("H200"), mode="speed", residency={"text_encoder": "component"})
    assert modes_of(found) == {"text_encoder": "component", "transformer": "resident", "vae": "resident"}
