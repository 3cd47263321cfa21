"""Seconds of one forward, one step and one request for one choice, by formula.

Constants were measured on 2 x H200 (NVLink), torch 2.11, diffusers 0.42.1, on 2026-11-23; other products
scale by their achievable matmul, attention and memory rates. Launch costs are the host's and do not scale
with the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_runtime.planning.documents import Shape, TimeForecast
from diffusion_runtime.planning.facts import DTYPE_BYTES
from diffusion_runtime.planning.memory_model import image_tokens, joint_tokens, tensor_share
from diffusion_runtime.planning.problem import Choice, Problem

REFERENCE_MATMUL_TFLOPS = 750.0
REFERENCE_MEMORY_BYTES_PER_S = 4.8e12
FLOAT32_SLOWDOWN = 8.0
"""float32 matmul against 16-bit: no tensor cores beyond TF32, which torch leaves off."""
STREAM_OVERHEAD = 1.09
"""Layerwise streaming against the host link's floor: 809 ms for 739 ms."""
CFG_OVERHEAD = 1.016
"""Two guidance ranks against half of two passes: 188.4 ms for 185.4 ms."""
COLLECTIVE_SECONDS = 70e-6
"""Cost of one collective beside its bytes: Qwen-Image Ulysses 2 compiled takes 91.7 ms for 68.8 ms."""
RING_OVERHEAD = 1.2
"""Ring attention against Ulysses at two ranks: 221.5 ms for 185.4 ms."""
TENSOR_SECONDS_PER_BLOCK = (0.0053, 0.0009)
"""DTensor dispatch per block, eager and compiled: Qwen-Image TP 2 takes 495 and 154 ms."""
FSDP_SECONDS_PER_BLOCK = 0.0002
"""The wrapper's own cost per sharded block."""


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
    step = forward * passes
    if problem.guided and choice.layout.cfg == 2:
        step = forward * CFG_OVERHEAD + 2 * COLLECTIVE_SECONDS
    request = (
        _encode_seconds(problem) * passes
        + shape.steps * step
        + _decode_seconds(problem, choice, shape)
        + _move_seconds(problem, choice)
    )
    return Times(forward, step, request)


def forward_seconds(problem: Problem, choice: Choice, shape: Shape) -> float:
    """One transformer forward on one rank, with streaming and communication."""
    layout = choice.layout
    seconds = _compute_seconds(problem, choice, shape) + _sequence_seconds(problem, choice, shape)
    name = problem.names_by_role["transformer"][0]
    component = problem.facts.component(name)
    if layout.tensor > 1:
        seconds += component.block_count * TENSOR_SECONDS_PER_BLOCK[choice.compiled]
    weights = problem.weights[name] * (tensor_share(problem, layout.tensor) if layout.tensor > 1 else 1.0)
    if layout.fsdp:
        gathered = weights * (choice.gpus - 1) / choice.gpus
        gather = gathered / problem.device.peer_link_bytes_per_s
        wrapper = component.block_count * FSDP_SECONDS_PER_BLOCK
        # Eager blocks are launch bound, so the CPU never runs ahead and nothing is gathered early.
        seconds = max(seconds, gather) + wrapper if choice.compiled else seconds + gather
    if choice.modes[name] == "layerwise":
        streamed = component.all_blocks_bytes(problem.dtype[name]) / problem.device.host_link_bytes_per_s
        seconds = max(seconds, streamed) * STREAM_OVERHEAD
    return seconds


def _compute_seconds(problem: Problem, choice: Choice, shape: Shape) -> float:
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
    seconds = (matmul + attention + elementwise) / choice.sequence_ranks
    if choice.layout.ring > 1:
        seconds *= RING_OVERHEAD
    return seconds if choice.compiled else max(seconds, cost.launch_seconds)


def _sequence_seconds(problem: Problem, choice: Choice, shape: Shape) -> float:
    """Ulysses: four all-to-alls a block; ring: keys and values passed on n - 1 times a block."""
    layout, cost = choice.layout, problem.facts.denoise
    if choice.sequence_ranks == 1:
        return 0.0
    name = problem.names_by_role["transformer"][0]
    blocks = max(1, problem.facts.component(name).block_count)
    # attention_flops_per_pair = 4 x channels x blocks, so this sizes one tensor of all blocks.
    channels = cost.attention_flops_per_pair / 4
    tensor_bytes = (
        image_tokens(problem, shape) / choice.sequence_ranks * channels * DTYPE_BYTES[problem.dtype[name]]
    )
    seconds = 0.0
    if layout.ulysses > 1:
        moved = 4 * tensor_bytes * (layout.ulysses - 1) / layout.ulysses
        seconds += moved / problem.device.peer_link_bytes_per_s + 4 * blocks * COLLECTIVE_SECONDS
    if layout.ring > 1:
        moved = 2 * tensor_bytes * (layout.ring - 1)
        seconds += moved / problem.device.peer_link_bytes_per_s
        seconds += 4 * (layout.ring - 1) * blocks * COLLECTIVE_SECONDS
    return seconds


def _encode_seconds(problem: Problem) -> float:
    cost = problem.facts.text
    compute = cost.flops / (problem.device.matmul_tflops * 1e12)
    return max(cost.launch_seconds, compute * _slowdown(problem, problem.names_by_role["encoder"]))


def _decode_seconds(problem: Problem, choice: Choice, shape: Shape) -> float:
    cost = problem.facts.decode
    speed = REFERENCE_MATMUL_TFLOPS / problem.device.matmul_tflops
    pixels = shape.width * shape.height
    seconds = cost.seconds_fixed + pixels * shape.frames * cost.seconds_per_pixel_frame * speed
    if _slowdown(problem, problem.names_by_role["vae"]) > 1:
        seconds *= 2  # convolutions are memory bound: twice the bytes, twice the time
    tiled = choice.tile_size is not None and choice.tile_size**2 < pixels
    return seconds * cost.tiled_time_factor if tiled else seconds


def _move_seconds(problem: Problem, choice: Choice) -> float:
    """Components that visit the GPU: in and back once per request."""
    moved = sum(problem.weights[name] for name, mode in choice.residency if mode == "component")
    return 2 * moved / problem.device.host_link_bytes_per_s


def _slowdown(problem: Problem, names: tuple[str, ...]) -> float:
    return FLOAT32_SLOWDOWN if any(problem.dtype[name] == "float32" for name in names) else 1.0
