"""The count: explicit wins; else the objective decides among counts for which all replicas fit."""

from __future__ import annotations

import pytest

from builders.asking import Answers, Nodes, Plans
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.search import replicas_that_fit


def test_four_replicas_on_four_gpus_take_one_each(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus(*["H200"] * 4), 4)
    assert found.gpus_per_replica == 1
    assert any("not all 4 replicas would fit" in reason for reason in found.reasons)


def test_two_replicas_on_four_gpus_take_two_each(plan: Plans, gpus: Nodes, qwen: str) -> None:
    assert plan(qwen, gpus(*["H200"] * 4), 2).gpus_per_replica == 2


def test_throughput_takes_fewer_gpus(plan: Plans, gpus: Nodes, qwen: str) -> None:
    assert plan(qwen, gpus("H200", "H200"), objective="throughput").gpus_per_replica == 1


def test_too_many_replicas_run_as_many_as_possible(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus("H200", "H200"), 5)
    assert found.gpus_per_replica == 1
    assert any("3 wait" in reason for reason in found.reasons)


def test_a_replica_never_spans_nodes(answer: Answers, gpus: Nodes, qwen: str) -> None:
    nodes = [gpus("H200"), gpus("H200")]
    assert replicas_that_fit(nodes, 2) == 0
    refused = answer(qwen, nodes, gpus_per_replica=2)
    assert refused.reason == "InsufficientGPUs"
    assert "no node has more than 1 free: 1 missing" in refused.message


def test_explicit_count_is_filled_with_correct_layouts_and_a_warning(
    plan: Plans, gpus: Nodes, qwen: str
) -> None:
    found = plan(qwen, gpus(*["H200"] * 4), gpus_per_replica=4)
    assert found.layout.ranks == 4
    assert found.layout.cfg == 2
    assert any("not proven" in warning for warning in found.warnings)


def test_a_count_that_nothing_fills_names_those_that_work(answer: Answers, gpus: Nodes, qwen: str) -> None:
    with pytest.raises(BadRequest, match="counts up to 16 that work: 1, 2") as refusal:
        answer(qwen, gpus(*["H200"] * 8), gpus_per_replica=7)
    assert refusal.value.field == "gpusPerReplica"


def test_no_gpu_at_all(answer: Answers, gpus: Nodes, qwen: str) -> None:
    assert answer(qwen, gpus()).reason == "InsufficientGPUs"


@pytest.mark.parametrize("product", ["NVIDIA-H200-SHARED", "NVIDIA-H100-80GB-HBM3-MIG-3g.40gb"])
def test_slices_and_shared_devices_take_no_multi_gpu_layout(
    answer: Answers, plan: Plans, gpus: Nodes, qwen: str, product: str
) -> None:
    pair = gpus(product, product)
    assert plan(qwen, pair).gpus_per_replica == 1
    assert answer(qwen, pair, gpus_per_replica=2).reason == "LayoutUnsupported"
