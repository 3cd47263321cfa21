"""Turns a choice into the documents that an engine executes. No decision is made here."""

from __future__ import annotations

from functools import lru_cache

from diffusion_runtime.planning.documents import (
    AttentionSettings,
    CompileSettings,
    Execution,
    Fallback,
    Residency,
    ResidencyMode,
    VaeSettings,
    execution_hash,
)
from diffusion_runtime.planning.evaluate import Weighed
from diffusion_runtime.planning.problem import PREFETCH_BLOCKS, Choice, Problem


def residency_document(choice: Choice) -> dict[str, Residency]:
    """Residency by component, with prefetch depth and resident blocks of streamed ones."""
    return {
        name: _residency(mode, choice.resident_blocks if mode == "layerwise" else 0)
        for name, mode in choice.residency
    }


@lru_cache(maxsize=256)
def _residency(mode: ResidencyMode, resident_blocks: int) -> Residency:
    """One document for all components that are held alike; documents are frozen."""
    prefetch = PREFETCH_BLOCKS if mode == "layerwise" else 0
    return Residency(mode=mode, prefetch_blocks=prefetch, resident_blocks=resident_blocks)


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
    key = ("fallback", weighed.kind, weighed.tile_size, weighed.resident_blocks)
    known: Fallback | None = problem.memo.get(key)
    if known is None:
        document = execution(problem, weighed.choice)
        known = problem.memo[key] = Fallback(
            **{name: getattr(document, name) for name in Execution.model_fields},
            peak_per_gpu_bytes=weighed.peak,
            host_bytes=weighed.host,
            hash=execution_hash(document),
        )
    return known
