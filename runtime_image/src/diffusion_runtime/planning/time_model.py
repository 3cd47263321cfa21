"""Seconds of one forward, one step and one request for one choice, by formula.

Constants were measured on 2 x H200 (NVLink), torch 2.11, diffusers 0.42.1, on 2026-11-23; other products
scale by their achievable matmul, attention and memory rates. Launch costs are the host's and do not scale
with the GPU: an eager forward is never faster than its launches, a compiled one hardly has any.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from diffusion_runtime.planning.activations import (
    TILE_STRIDE,
    image_tokens,
    joint_tokens,
    passes_at_once,
)
from diffusion_runtime.planning.documents import Shape, TimeForecast
from diffusion_runtime.planning.facts import DTYPE_BYTES
from diffusion_runtime.planning.memory_model import streamed_bytes, tensor_share
from diffusion_runtime.planning.problem import Choice, Problem

REFERENCE_MATMUL_TFLOPS = 750.0
REFERENCE_MEMORY_BYTES_PER_S = 4.8e12
FLOAT32_SLOWDOWN = 8.0
"""float32 matmul against 16-bit: no tensor cores beyond TF32, which torch leaves off."""
STREAM_OVERHEAD = 1.09
"""Layerwise streaming against the host link's floor: 809 ms for 739 ms."""
HIDDEN_STREAM_COST = 0.05
"""All blocks streamed behind the compute, over resident: 24.6 s for 23.4 s (cache-dit's offload table, FLUX.1
on an L20). Not measured here."""
CFG_OVERHEAD = 1.016
"""Two guidance ranks against half of two passes: 188.4 ms for 185.4 ms."""
COLLECTIVE_SECONDS = 70e-6
"""Cost of one collective beside its bytes: Qwen-Image Ulysses 2 compiled takes 91.7 ms for 68.8 ms."""
EAGER_COLLECTIVE_SECONDS = 410e-6
"""CPU time of launching one collective eagerly: Qwen-Image Ulysses 2 takes 185 ms where launches take 87."""
RING_OVERHEAD = 1.2
"""Ring attention against Ulysses at two ranks: 221.5 ms for 185.4 ms."""
TENSOR_SECONDS_PER_BLOCK = (0.0053, 0.0009)
"""DTensor dispatch per block, eager and compiled: Qwen-Image TP 2 takes 495 and 154 ms."""
FSDP_SECONDS_PER_UNIT = 0.0002
"""The wrapper's own cost per sharded unit."""
EAGER_FSDP_SECONDS_PER_UNIT = 0.0015
"""CPU time of gathering and freeing one unit eagerly: 251.7 ms for 175 and 74 ms of Qwen-Image on 2 GPUs."""


@dataclass(frozen=True)
class Times:
    """Seconds."""

    forward: float
    step: float
    request: float

    def forecast(self) -> TimeForecast:
        """As a document."""
        return TimeForecast(
            per_forward_seconds=round(self.forward, 6),
            per_step_seconds=round(self.step, 6),
            per_request_seconds=round(self.request, 6),
        )


def predict_times(problem: Problem, choice: Choice) -> Times:
    """Times of the first shape: encode + steps x forwards + decode + moves between host and GPU."""
    shape = problem.shapes[0]
    forward = forward_seconds(problem, choice, shape)
    passes = 2 if problem.guided else 1
    step = forward * passes / passes_at_once(problem, choice)
    if problem.guided and choice.layout.cfg == 2:
        step = forward * CFG_OVERHEAD + 2 * COLLECTIVE_SECONDS
    request = (
        encode_seconds(problem) * passes
        + shape.steps * step
        + decode_seconds(problem, choice, shape)
        + _move_seconds(problem, choice)
    )
    return Times(forward, step, request)


def forward_seconds(problem: Problem, choice: Choice, shape: Shape) -> float:
    """One transformer forward on one rank (both passes where they are batched), with streaming and
    communication.
    """
    seconds = _compute_seconds(problem, choice, shape) + _sequence_seconds(problem, choice, shape)
    if not choice.compiled:
        seconds = max(seconds, _launch_seconds(problem, choice))
    for name in _running(problem):
        seconds = _with_weights(problem, choice, name, seconds)
    return seconds


def _running(problem: Problem) -> tuple[str, ...]:
    """Transformers of one forward: those of every step, and the largest expert in place of all experts."""
    names = problem.names_by_role["transformer"]
    experts = [n for n in names if problem.facts.component(n).expert]
    largest = max(experts, key=lambda n: (problem.weights[n], n), default=None)
    return tuple(n for n in names if n not in experts or n == largest)


def _with_weights(problem: Problem, choice: Choice, name: str, seconds: float) -> float:
    """`seconds` and what splitting, gathering or streaming one transformer's weights costs on top."""
    layout, component, dtype = choice.layout, problem.facts.component(name), problem.dtype[name]
    if layout.tensor > 1:
        seconds += component.block_count * TENSOR_SECONDS_PER_BLOCK[choice.compiled]
    if layout.fsdp and choice.modes[name] == "resident":
        seconds = _with_gathers(problem, choice, name, seconds)
    if choice.modes[name] == "layerwise":
        share = tensor_share(problem, layout.tensor) if layout.tensor > 1 else 1.0
        streamed = streamed_bytes(component, dtype, choice.resident_blocks) * share
        every = streamed_bytes(component, dtype, 0) * share
        streaming = streamed / problem.device.host_link_bytes_per_s * STREAM_OVERHEAD
        # Resident blocks are spread evenly, so that their compute hides the streaming of the others; hooks
        # and copies beside the compute still cost their share.
        hidden = HIDDEN_STREAM_COST * streamed / every if every else 0.0
        seconds = max(seconds * (1 + hidden), streaming)
    return seconds


def _with_gathers(problem: Problem, choice: Choice, name: str, seconds: float) -> float:
    """`seconds` and what gathering one sharded transformer adds: what compute does not hide.

    A unit is gathered early only as far as the CPU runs ahead of the GPU. Compiled it always does; eagerly
    the share of gathers in the open is CPU time over compute time: all for Qwen-Image, little for long clips.
    """
    gathered = problem.weights[name] * (choice.gpus - 1) / choice.gpus
    gather = gathered / problem.device.peer_link_bytes_per_s
    units = problem.facts.component(name).unit_count(choice.layout.fsdp_blocks_per_unit)
    if choice.compiled:
        return max(seconds, gather) + units * FSDP_SECONDS_PER_UNIT
    cpu = _launch_seconds(problem, choice) + units * EAGER_FSDP_SECONDS_PER_UNIT
    seconds = max(seconds, cpu)
    in_the_open = cpu / seconds
    return max(seconds, gather) + in_the_open * min(seconds, gather)


def _compute_seconds(problem: Problem, choice: Choice, shape: Shape) -> float:
    """Matmul, attention and elementwise time of one rank's tokens."""
    cost, device = problem.facts.denoise, problem.device
    tokens = joint_tokens(problem, shape)
    keys = tokens if cost.text_joins_attention else tokens + cost.text_tokens
    slowdown = _slowdown(problem, problem.names_by_role["transformer"])
    matmul = tokens * cost.matmul_flops_per_token / (device.matmul_tflops * 1e12) * slowdown
    attention = tokens * keys * cost.attention_flops_per_pair / (device.attention_tflops * 1e12) * slowdown
    per_token = (
        cost.compiled_elementwise_seconds_per_token if choice.compiled else cost.elementwise_seconds_per_token
    )
    elementwise = tokens * per_token * REFERENCE_MEMORY_BYTES_PER_S / device.memory_bytes_per_s
    if choice.layout.tensor > 1:
        share = tensor_share(problem, choice.layout.tensor)
        matmul, attention = matmul * share, attention / choice.layout.tensor
    seconds = (matmul + attention + elementwise) * passes_at_once(problem, choice) / choice.sequence_ranks
    if choice.layout.ring > 1:
        seconds *= RING_OVERHEAD
    return max(seconds, cost.compiled_launch_seconds) if choice.compiled else seconds


def _launch_seconds(problem: Problem, choice: Choice) -> float:
    """What the CPU needs to launch an eager forward; collectives of sequence parallelism cost extra."""
    collectives = _collectives(choice) * _sequence_blocks(problem)
    ring = RING_OVERHEAD if choice.layout.ring > 1 else 1.0
    return problem.facts.denoise.launch_seconds * ring + collectives * EAGER_COLLECTIVE_SECONDS


def _collectives(choice: Choice) -> int:
    """Collectives per block: four all-to-alls for Ulysses; keys and values passed on n - 1 times for ring."""
    ulysses, ring = choice.layout.ulysses, choice.layout.ring
    return (4 if ulysses > 1 else 0) + 4 * (ring - 1)


def _sequence_blocks(problem: Problem) -> int:
    return max(1, sum(problem.facts.component(name).block_count for name in _running(problem)))


def _sequence_seconds(problem: Problem, choice: Choice, shape: Shape) -> float:
    """Communication of sequence parallelism over the peer link, in one forward."""
    layout, cost = choice.layout, problem.facts.denoise
    if choice.sequence_ranks == 1:
        return 0.0
    name = problem.names_by_role["transformer"][0]
    # attention_flops_per_pair = 4 x channels x blocks, so this sizes one tensor of all blocks.
    channels = cost.attention_flops_per_pair / 4
    tokens = (image_tokens(problem, shape) + cost.condition_tokens) * passes_at_once(problem, choice)
    tensor_bytes = tokens / choice.sequence_ranks * channels * DTYPE_BYTES[problem.dtype[name]]
    moved = 4 * tensor_bytes * (layout.ulysses - 1) / layout.ulysses + 2 * tensor_bytes * (layout.ring - 1)
    seconds = moved / problem.device.peer_link_bytes_per_s
    return seconds + _collectives(choice) * _sequence_blocks(problem) * COLLECTIVE_SECONDS


def encode_seconds(problem: Problem) -> float:
    """One prompt, no faster than its launches."""
    cost = problem.facts.text
    compute = cost.flops / (problem.device.matmul_tflops * 1e12)
    return max(cost.launch_seconds, compute * _slowdown(problem, problem.names_by_role["encoder"]))


def decode_seconds(problem: Problem, choice: Choice, shape: Shape) -> float:
    """Whole: by pixels. In tiles: every tile at full size, each no faster than its launches."""
    cost = problem.facts.decode
    per_pixel = cost.seconds_per_pixel_frame * REFERENCE_MATMUL_TFLOPS / problem.device.matmul_tflops
    if _slowdown(problem, problem.names_by_role["vae"]) > 1:
        per_pixel *= 2  # convolutions are memory bound: twice the bytes, twice the time
    launch = cost.launch_seconds * (1 + (shape.frames - 1) // cost.frames_at_once)
    pixels, size = shape.width * shape.height, choice.tile_size
    if size is None or size**2 >= pixels:
        return max(cost.seconds_fixed + pixels * shape.frames * per_pixel, launch)
    stride = size * TILE_STRIDE
    tiles = ceil(shape.width / stride) * ceil(shape.height / stride)
    return tiles * max(size**2 * shape.frames * per_pixel, launch)


def _move_seconds(problem: Problem, choice: Choice) -> float:
    """Components that visit the GPU: in and back once per request."""
    moved = sum(problem.weights[name] for name, mode in choice.residency if mode == "component")
    return 2 * moved / problem.device.host_link_bytes_per_s


def _slowdown(problem: Problem, names: tuple[str, ...]) -> float:
    return FLOAT32_SLOWDOWN if any(problem.dtype[name] == "float32" for name in names) else 1.0
