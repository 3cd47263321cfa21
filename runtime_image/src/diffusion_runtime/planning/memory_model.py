"""Peak bytes per GPU and on the host for one choice, phase by phase.

Peak = CUDA context + the largest phase of (weights by placement + activations + allocator gap). Weights are
exact; activations come from `activations`. Every phase is a sum of what each component adds and what the
phase works with, so that parts can be weighed apart. Sources: context and libraries as measured on one H200
(torch 2.11, diffusers 0.42.1); FSDP keeps about three units unsharded (21.3 GiB for Qwen-Image on 2 GPUs).
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_runtime.planning.activations import (
    decode_bytes,
    denoise_bytes,
    image_tokens,
    joint_tokens,
    text_bytes,
)
from diffusion_runtime.planning.documents import DtypeName, MemoryForecast, PhaseMemory, Phases
from diffusion_runtime.planning.facts import DTYPE_BYTES, ComponentFacts
from diffusion_runtime.planning.problem import PREFETCH_BLOCKS, Choice, Problem

__all__ = [
    "Footprint",
    "Phase",
    "decode_bytes",
    "denoise_bytes",
    "footprint",
    "image_tokens",
    "joint_tokens",
    "streamed_bytes",
    "tensor_share",
    "text_bytes",
]

CONTEXT_BYTES = 648_871_936
LIBRARY_BYTES = 84 * 10**6
"""Kernels that cuBLAS and the attention load on first use: 729 to 737 MB beside what torch reserves."""
NVLINK_BYTES_PER_S = 100e9
UNMEASURED_NCCL_BYTES = 400 * 2**20
"""Communicators where links are slower than NVLink: an estimate."""
NCCL_BYTES, NCCL_BYTES_A_RANK, NCCL_BYTES_OF_A_SEQUENCE = 10**9, 500 * 10**6, 500 * 10**6
"""Communicators of two or more ranks, and a further one where a sequence is split. Measured beyond one rank
alone, NVLink: CFG 2 2.04 GB (H100, H200), with FSDP 2.04, Ulysses 2 2.50, Ulysses 4 3.31, CFG 2 x Ulysses 2
3.32, with FSDP 3.62."""
FSDP_UNITS_IN_FLIGHT = 3
"""The unit that computes, the one gathered ahead, and the one not yet freed."""
STREAM_BLOCKS_NOT_YET_FREED = 0.35
"""Beside the block that computes and the prefetched ones: 1.96 and 3.03 GiB for Qwen-Image at two sizes."""
HOST_BASE_BYTES = 3 * 2**30
"""Host memory of one rank process without any weights: interpreter, torch, CUDA libraries."""


@dataclass(frozen=True)
class Phase:
    """Bytes of one phase on one GPU, context not included."""

    weights: int
    activation: int
    gap: int

    @property
    def total(self) -> int:
        """Allocated and reserved bytes."""
        return self.weights + self.activation + self.gap


@dataclass(frozen=True)
class Footprint:
    """All phases, context and host bytes of one choice."""

    context: int
    load: Phase
    text: Phase
    denoise: Phase
    decode: Phase
    host: int

    @property
    def peak(self) -> int:
        """Bytes that the driver shows at the worst moment."""
        return self.context + max(self.load.total, self.text.total, self.denoise.total, self.decode.total)

    @property
    def worst_phase(self) -> str:
        """Name of the phase that sets the peak."""
        totals = {name: getattr(self, name).total for name in ("load", "text", "denoise", "decode")}
        return max(totals, key=lambda name: totals[name])

    def forecast(self, free_bytes: int) -> MemoryForecast:
        """As a document."""
        phases = {
            name: PhaseMemory(weights_bytes=p.weights, activation_bytes=p.activation, gap_bytes=p.gap)
            for name, p in (
                ("load", self.load),
                ("text", self.text),
                ("denoise", self.denoise),
                ("decode", self.decode),
            )
        }
        return MemoryForecast(
            peak_per_gpu_bytes=self.peak,
            free_per_gpu_bytes=free_bytes,
            host_bytes=self.host,
            context_bytes=self.context,
            phases=Phases(**phases),
        )


def footprint(problem: Problem, choice: Choice) -> Footprint:
    """Bytes of every phase of the largest shape under this choice."""
    roles = problem.names_by_role
    permanent = host = 0
    visiting: dict[str, int] = {}
    for component in problem.facts.components:
        mode = choice.modes[component.name]
        if mode == "component":
            visiting[component.name] = _held_bytes(problem, choice, component)
        else:
            permanent += _permanent_bytes(problem, choice, component)
        host += _host_bytes(problem, choice, component)
    text_visit = max((visiting.get(name, 0) for name in roles["encoder"]), default=0)
    denoise_visit = _together(problem, {n: visiting.get(n, 0) for n in roles["transformer"]})
    decode_visit = max((visiting.get(name, 0) for name in (*roles["vae"], *roles["other"])), default=0)
    work = _together(problem, {n: _block_work(problem, choice, n) for n in roles["transformer"]})
    ranks = choice.gpus
    return Footprint(
        context=CONTEXT_BYTES + LIBRARY_BYTES + _communicator_bytes(problem, choice),
        load=Phase(permanent + _load_work(problem, choice), 0, 0),
        text=Phase(permanent + text_visit, *text_bytes(problem)),
        denoise=Phase(permanent + denoise_visit + work, *denoise_bytes(problem, choice)),
        decode=Phase(permanent + decode_visit, *decode_bytes(problem, choice)),
        host=ranks * (HOST_BASE_BYTES + host),
    )


def _communicator_bytes(problem: Problem, choice: Choice) -> int:
    """More than four ranks were not measured."""
    if choice.gpus == 1:
        return 0
    if problem.device.peer_link_bytes_per_s < NVLINK_BYTES_PER_S:
        return UNMEASURED_NCCL_BYTES
    sequence = NCCL_BYTES_OF_A_SEQUENCE if choice.sequence_ranks > 1 else 0
    return NCCL_BYTES + NCCL_BYTES_A_RANK * choice.gpus + sequence


def streamed_bytes(component: ComponentFacts, dtype: DtypeName, resident_blocks: int) -> int:
    """Bytes of blocks that pass through the GPU in each forward; `resident_blocks`, evenly spread, stay."""
    count = component.block_count
    blocks = component.all_blocks_bytes(dtype)
    return blocks - blocks * min(resident_blocks, count) // count if count else 0


def _held_bytes(problem: Problem, choice: Choice, component: ComponentFacts) -> int:
    """A whole component on one rank: tensor-parallel transformers and text encoders hold their share."""
    bytes_ = problem.weights[component.name]
    if component.kind == "transformer" and choice.layout.tensor > 1:
        return int(bytes_ * tensor_share(problem, choice.layout.tensor))
    if choice.layout.text_encoder_tensor and component.slices:
        sliced = component.sliced_elements * DTYPE_BYTES[problem.dtype[component.name]]
        return bytes_ - (sliced - sliced // choice.gpus)
    return bytes_


def _permanent_bytes(problem: Problem, choice: Choice, component: ComponentFacts) -> int:
    """What stays on each GPU between phases: whole, sharded, split, or the kept blocks of streamed ones."""
    bytes_ = _held_bytes(problem, choice, component)
    if choice.modes[component.name] == "layerwise":
        dtype = problem.dtype[component.name]
        kept = component.all_blocks_bytes(dtype) - streamed_bytes(component, dtype, choice.resident_blocks)
        return int(kept * _share_held(problem, choice, component))
    if component.kind == "transformer" and choice.layout.fsdp:
        return -(-bytes_ // choice.gpus)
    return bytes_


def _share_held(problem: Problem, choice: Choice, component: ComponentFacts) -> float:
    return _held_bytes(problem, choice, component) / problem.weights[component.name]


def _block_work(problem: Problem, choice: Choice, name: str) -> int:
    """Bytes of one transformer that are on the GPU only while it runs: what is outside its blocks, and units
    in flight (streamed, gathered).
    """
    component, dtype = problem.facts.component(name), problem.dtype[name]
    per_unit = choice.layout.fsdp_blocks_per_unit
    rest = problem.weights[name] - component.all_blocks_bytes(dtype)
    if choice.modes[name] == "layerwise":
        share = _share_held(problem, choice, component)
        moving = max(0, component.block_count - choice.resident_blocks)
        in_flight = min(1 + PREFETCH_BLOCKS + STREAM_BLOCKS_NOT_YET_FREED, moving)
        return int((in_flight * component.block_bytes(dtype) + rest) * share)
    if choice.layout.fsdp and choice.modes[name] == "resident":
        gathered = min(FSDP_UNITS_IN_FLIGHT, component.unit_count(per_unit))
        return gathered * component.unit_bytes(dtype, per_unit) + rest
    return 0


def _together(problem: Problem, bytes_by_name: dict[str, int]) -> int:
    """Bytes on the GPU at one moment: what runs in every step, and the largest of the experts."""
    always, experts = 0, [0]
    for name, bytes_ in bytes_by_name.items():
        if problem.facts.component(name).expert:
            experts.append(bytes_)
        else:
            always += bytes_
    return always + max(experts)


def _host_bytes(problem: Problem, choice: Choice, component: ComponentFacts) -> int:
    """Host memory of one rank for weights that are not always on its GPU: pinned, exact in size."""
    if choice.modes[component.name] == "resident":
        return 0
    held = _held_bytes(problem, choice, component)
    if choice.modes[component.name] == "layerwise":
        return held - _permanent_bytes(problem, choice, component)
    return held


def _load_work(problem: Problem, choice: Choice) -> int:
    """FSDP loads and shards one unit after the other: one whole unit beside the shards."""
    if not choice.layout.fsdp:
        return 0
    per_unit = choice.layout.fsdp_blocks_per_unit
    names = problem.names_by_role["transformer"]
    return max(problem.facts.component(name).unit_bytes(problem.dtype[name], per_unit) for name in names)


def tensor_share(problem: Problem, ranks: int) -> float:
    """Share of the transformer's weights on one of `ranks` tensor-parallel ranks."""
    sharded = problem.facts.denoise.tensor_sharded_fraction
    return 1 - sharded + sharded / ranks
