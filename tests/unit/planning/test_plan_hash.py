"""The hash covers what changes the pod and nothing that is merely predicted."""

from __future__ import annotations

from builders.asking import Nodes, Plans
from diffusion_runtime.planning.documents import Plan, Workload


def test_free_bytes_reasons_and_mode_do_not_matter(plan: Plans, gpus: Nodes, qwen: str) -> None:
    roomy, tight = gpus("H200"), gpus("H200", free_bytes=[100 * 2**30])
    first, second = plan(qwen, roomy), plan(qwen, tight)
    assert first.memory != second.memory
    assert first.hash == second.hash
    streamed = [plan(qwen, gpus("RTX-4090", free_bytes=[23 * 2**30 + extra])) for extra in (0, 2**20)]
    assert streamed[0].memory != streamed[1].memory
    assert streamed[0].hash == streamed[1].hash


def test_what_changes_the_pod_changes_it(plan: Plans, gpus: Nodes, qwen: str) -> None:
    seen = {plan(qwen, gpus("H200", "H200"), **wish).hash for wish in (
        {}, {"gpus_per_replica": 1}, {"compile": False}, {"vae_tile_size": 512},
        {"residency": {"vae": "component"}}, {"workload": Workload(guidance="off")}, {"device": "cpu"},
    )}  # fmt: skip
    assert len(seen) == 7


def test_the_document_survives_the_wire(plan: Plans, gpus: Nodes, qwen: str) -> None:
    found = plan(qwen, gpus("H200", "H200"))
    assert Plan.model_validate_json(found.to_json()) == found
    assert plan(qwen, gpus("H200", "H200")).to_json() == found.to_json()
