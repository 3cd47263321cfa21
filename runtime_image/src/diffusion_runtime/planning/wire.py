"""Turns a choice into the documents that an engine executes. No decision is made here."""

from __future__ import annotations

from diffusion_runtime.planning.documents import (
    AttentionSettings,
    CompileSettings,
    Execution,
    Fallback,
    Residency,
    VaeSettings,
    execution_hash,
)
from diffusion_runtime.planning.evaluate import Weighed
from diffusion_runtime.planning.problem import PREFETCH_BLOCKS, Choice, Problem


def residency_document(choice: Choice) -> dict[str, Residency]:
    """Residency by component, with the prefetch depth of streamed ones."""
    return {
        name: Residency(mode=mode, prefetch_blocks=PREFETCH_BLOCKS if mode == "layerwise" else 0)
        for name, mode in choice.residency
    }


def execution(problem: Problem, choice: Choice) -> Execution:
    """Everything that an engine must do for this choice."""
    return Execution(
        gpus_per_replica=choice.gpus,
        device=problem.intent.device,
        layout=choice.layout,
        residency=residency_document(choice),
        dtype=problem.dtype,
        compile=CompileSettings(enabled=choice.compiled),
        attention=AttentionSettings(backend=problem.intent.attention_backend or "native"),
        vae=VaeSettings(tiling=choice.tile_size is not None, tile_size=choice.tile_size),
    )


def fallback(problem: Problem, weighed: Weighed) -> Fallback:
    """A complete alternative to a plan."""
    document = execution(problem, weighed.choice)
    return Fallback(
        **{name: getattr(document, name) for name in Execution.model_fields},
        peak_per_gpu_bytes=weighed.peak,
        hash=execution_hash(document),
    )
