"""Peak bytes per GPU and on the host for one choice, phase by phase.

Peak = CUDA context + the largest phase of (weights by placement + activations + allocator gap). Weights are
exact; activations come from the facts' fitted coefficients. Sources: context 649 MB and the cells measured
on one H200 (torch 2.11, diffusers 0.42.1); FSDP keeps about three blocks unsharded (21.3 GiB measured for
Qwen-Image on 2 GPUs).
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_runtime.planning.documents import MemoryForecast, PhaseMemory, Phases, Shape
from diffusion_runtime.planning.facts import DTYPE_BYTES, ComponentFacts
from diffusion_runtime.planning.problem import PREFETCH_BLOCKS, Choice, Problem

CONTEXT_BYTES = 648_871_936
NCCL_BYTES = 400 * 2**20
"""Communicator buffers with two or more ranks: an estimate, not measured yet."""
FSDP_BLOCKS_IN_FLIGHT = 3
"""The block that computes, the one gathered ahead, and the one not yet freed."""
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
    permanent = moved_host = 0
    visiting: dict[str, int] = {}
    for component in problem.facts.components:
        mode = choice.modes[component.name]
        bytes_ = problem.weights[component.name]
        if mode == "component":
            visiting[component.name] = bytes_
        else:
            permanent += _permanent_bytes(problem, choice, component)
        if mode != "resident":
            moved_host += bytes_
    text_visit = max((visiting.get(name, 0) for name in roles["encoder"]), default=0)
    denoise_visit = max((visiting.get(name, 0) for name in roles["transformer"]), default=0)
    decode_visit = max((visiting.get(name, 0) for name in (*roles["vae"], *roles["other"])), default=0)
    work = _block_work(problem, choice)
    ranks = choice.gpus
    return Footprint(
        context=CONTEXT_BYTES + (NCCL_BYTES if ranks > 1 else 0),
        load=Phase(permanent + _load_work(problem, choice), 0, 0),
        text=Phase(permanent + text_visit, *text_bytes(problem)),
        denoise=Phase(permanent + denoise_visit + work, *denoise_bytes(problem, choice)),
        decode=Phase(permanent + decode_visit, *decode_bytes(problem, choice)),
        host=ranks * (HOST_BASE_BYTES + moved_host),
    )


def _permanent_bytes(problem: Problem, choice: Choice, component: ComponentFacts) -> int:
    """Bytes that stay on each GPU between phases: whole, sharded, split, or the part outside streamed
    blocks.
    """
    bytes_ = problem.weights[component.name]
    dtype = problem.dtype[component.name]
    if choice.modes[component.name] == "layerwise":
        return bytes_ - component.all_blocks_bytes(dtype)
    if component.kind != "transformer":
        return bytes_
    if choice.layout.tensor > 1:
        bytes_ = int(bytes_ * tensor_share(problem, choice.layout.tensor))
    if choice.layout.fsdp:
        bytes_ = -(-bytes_ // choice.gpus)
    return bytes_


def _block_work(problem: Problem, choice: Choice) -> int:
    """Whole blocks that are on the GPU for a moment while a transformer runs (streamed or gathered)."""
    most = 0
    for name in problem.names_by_role["transformer"]:
        component = problem.facts.component(name)
        dtype = problem.dtype[name]
        block = component.block_bytes(dtype)
        if choice.modes[name] == "layerwise":
            most = max(most, (1 + PREFETCH_BLOCKS) * block)
        elif choice.layout.fsdp and choice.modes[name] == "resident":
            rest = problem.weights[name] - component.all_blocks_bytes(dtype)
            in_flight = FSDP_BLOCKS_IN_FLIGHT * choice.layout.fsdp_blocks_per_unit
            most = max(most, min(in_flight, component.block_count) * block + rest)
    return most


def _load_work(problem: Problem, choice: Choice) -> int:
    """FSDP loads and shards one block after the other: one whole block beside the shards."""
    if not choice.layout.fsdp:
        return 0
    names = problem.names_by_role["transformer"]
    return max(problem.facts.component(name).block_bytes(problem.dtype[name]) for name in names)


def tensor_share(problem: Problem, ranks: int) -> float:
    """Share of the transformer's weights on one of `ranks` tensor-parallel ranks."""
    sharded = problem.facts.denoise.tensor_sharded_fraction
    return 1 - sharded + sharded / ranks


def image_tokens(problem: Problem, shape: Shape) -> int:
    """Tokens of one picture or clip: `token_pixels` squared each, `token_frames` frames after the first."""
    cost = problem.facts.denoise
    area = -(-shape.width // cost.token_pixels) * -(-shape.height // cost.token_pixels)
    return int(area * (1 + (shape.frames - 1) // cost.token_frames))


def joint_tokens(problem: Problem, shape: Shape) -> int:
    """Image tokens, and text tokens where both attend jointly."""
    cost = problem.facts.denoise
    return image_tokens(problem, shape) + (cost.text_tokens if cost.text_joins_attention else 0)


def denoise_bytes(problem: Problem, choice: Choice) -> tuple[int, int]:
    """Activations and allocator gap of one forward on one rank; guidance runs its two passes one after the
    other.
    """
    cost = problem.facts.denoise
    tokens = joint_tokens(problem, problem.largest_shape) / choice.sequence_ranks
    scale = _activation_scale(problem, problem.names_by_role["transformer"])
    if choice.compiled:
        work = cost.compiled_fixed_bytes + cost.compiled_bytes_per_token * tokens
        gap = cost.compiled_gap_fixed_bytes + cost.compiled_gap_bytes_per_token * tokens
    else:
        work = cost.fixed_bytes + cost.bytes_per_token * tokens
        gap = cost.gap_fixed_bytes + cost.gap_bytes_per_token * tokens
    return int(work * scale), int(gap * scale)


def decode_bytes(problem: Problem, choice: Choice) -> tuple[int, int]:
    """Activations and gap of decoding, whole or in tiles of `choice.tile_size` pixels squared."""
    cost = problem.facts.decode
    shape = problem.largest_shape
    pixels = shape.width * shape.height
    scale = _activation_scale(problem, problem.names_by_role["vae"])
    at_once = pixels if choice.tile_size is None else min(pixels, choice.tile_size**2)
    work = cost.fixed_bytes + at_once * (cost.bytes_per_pixel + cost.bytes_per_pixel_frame * shape.frames)
    fixed_gap = cost.gap_fixed_bytes
    if at_once < pixels:
        work += pixels * shape.frames * cost.tiled_bytes_per_pixel_frame
        fixed_gap = 0.0
    return int(work * scale), int((fixed_gap + work * cost.gap_fraction) * scale)


def text_bytes(problem: Problem) -> tuple[int, int]:
    """Activations and gap of encoding one prompt."""
    cost = problem.facts.text
    scale = _activation_scale(problem, problem.names_by_role["encoder"])
    return int(cost.tokens * cost.bytes_per_token * scale), int(cost.gap_bytes * scale)


def _activation_scale(problem: Problem, names: tuple[str, ...]) -> float:
    """Activations grow with the element size of the widest planned dtype; coefficients are for two bytes."""
    return max((DTYPE_BYTES[problem.dtype[name]] for name in names), default=2) / 2
