"""device cpu: GPUs are counted as ever, everything is float32 and eager, and the plan says so."""

from __future__ import annotations

from builders.asking import Answers, Nodes, Plans


def test_float32_and_a_plain_warning(plan: Plans, gpus: Nodes) -> None:
    found = plan("demo", gpus("H200", "H200"), device="cpu", gpus_per_replica=2)
    assert found.device == "cpu"
    assert found.layout.cfg == 2
    assert set(found.dtype.values()) == {"float32"}
    assert not found.compile.enabled
    assert any("runs on the CPU" in warning and "not predicted" in warning for warning in found.warnings)


def test_gpus_without_bfloat16_do_not_matter_there(answer: Answers, plan: Plans, gpus: Nodes) -> None:
    assert plan("demo", gpus("T4"), device="cpu").gpus_per_replica == 1
    refused = answer("demo", gpus("T4"))
    assert refused.reason == "LayoutUnsupported"
    assert "T4 has no bfloat16" in refused.message
