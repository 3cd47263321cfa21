"""memory takes the least peak on the fewest GPUs: layerwise where correct, component offload elsewhere."""

from __future__ import annotations

from builders.asking import Modes, Nodes, Plans
from diffusion_runtime.models.catalog import facts_for


def test_streams_the_transformer_where_correct(plan: Plans, gpus: Nodes, wan: str, modes_of: Modes) -> None:
    modes = modes_of(plan(wan, gpus("H200"), mode="memory"))
    assert modes["transformer"] == "layerwise"
    assert modes["text_encoder"] == "component"


def test_component_offload_elsewhere(plan: Plans, gpus: Nodes, qwen: str, modes_of: Modes) -> None:
    facts = facts_for(qwen)
    parts = tuple(
        part.model_copy(update={"correct_residencies": ("resident", "component")})
        for part in facts.components
    )
    modes = modes_of(plan(facts.model_copy(update={"components": parts}), gpus("H200"), mode="memory"))
    assert modes["transformer"] == "component"


def test_eight_gpus_still_mean_one(plan: Plans, gpus: Nodes, qwen: str) -> None:
    assert plan(qwen, gpus(*["H200"] * 8), mode="memory").gpus_per_replica == 1


def test_nothing_resident_peaks_lower(plan: Plans, gpus: Nodes, wan: str) -> None:
    least = plan(wan, gpus("H200"), mode="memory").memory.peak_per_gpu_bytes
    for mode in ("auto", "speed"):
        assert least < plan(wan, gpus("H200"), mode=mode).memory.peak_per_gpu_bytes
