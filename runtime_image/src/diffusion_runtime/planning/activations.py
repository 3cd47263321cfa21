"""Activations and allocator gap of each phase's work, beside any weights.

Formulas: denoise = fixed + tokens x bytes per token (`ForwardBytes`); decode = pixels x bytes per pixel, or
one tile beside the tiles kept, then blending; text = fixed + tokens x bytes per token. Coefficients are the
facts'; how they were fitted and how well they hold is docs/results/planner-vs-measured.md.
"""

from __future__ import annotations

from diffusion_runtime.planning.documents import Shape
from diffusion_runtime.planning.facts import DTYPE_BYTES
from diffusion_runtime.planning.problem import Choice, Problem

TILE_STRIDE = 0.75
"""Tiles overlap by a quarter: diffusers' own ratio (256-pixel tiles, 192 apart)."""
BLEND_COPIES = 3
"""While tiles are blended: rows of blended tiles, their concatenation, and the clamped result."""


def image_tokens(problem: Problem, shape: Shape) -> int:
    """Tokens of one picture or clip: `token_pixels` squared each, `token_frames` frames after the first."""
    cost = problem.facts.denoise
    area = -(-shape.width // cost.token_pixels) * -(-shape.height // cost.token_pixels)
    return int(area * (1 + (shape.frames - 1) // cost.token_frames))


def joint_tokens(problem: Problem, shape: Shape) -> int:
    """Image tokens, those of reference pictures, and text tokens where they attend jointly."""
    cost = problem.facts.denoise
    joint_text = cost.text_tokens if cost.text_joins_attention else 0
    return image_tokens(problem, shape) + cost.condition_tokens + joint_text


def passes_at_once(problem: Problem, choice: Choice) -> int:
    """Guidance passes in one batch on a rank: two where the pipeline batches them and no axis splits them."""
    batched = problem.guided and problem.facts.denoise.guidance_in_one_batch and choice.layout.cfg == 1
    return 2 if batched else 1


def denoise_bytes(problem: Problem, choice: Choice) -> tuple[int, int]:
    """Activations and allocator gap of one forward on one rank. Passes outside a batch follow each other."""
    cost = problem.facts.denoise
    bytes_ = cost.compiled if choice.compiled else cost.eager
    text = cost.text_tokens * cost.text_token_weight if cost.text_joins_attention else 0.0
    tokens = image_tokens(problem, problem.largest_shape) + cost.condition_tokens + text
    tokens *= passes_at_once(problem, choice) / choice.sequence_ranks
    scale = _activation_scale(problem, problem.names_by_role["transformer"])
    moving = bytes_.bytes_per_token * tokens
    gap = bytes_.gap_fixed_bytes + bytes_.gap_share * moving
    return int((bytes_.fixed_bytes + moving) * scale), int(gap * scale)


def decode_bytes(problem: Problem, choice: Choice) -> tuple[int, int]:
    """Activations and gap of decoding, whole or in tiles of `choice.tile_size` pixels squared."""
    cost, shape = problem.facts.decode, problem.largest_shape
    pixels = shape.width * shape.height
    scale = _activation_scale(problem, problem.names_by_role["vae"])
    per_pixel = cost.bytes_per_pixel + cost.bytes_per_pixel_frame * shape.frames
    output = cost.output_bytes_per_pixel_frame * pixels * shape.frames
    size = choice.tile_size
    if size is None or size**2 >= pixels:
        work = cost.fixed_bytes + pixels * per_pixel + output
        return int(work * scale), int((cost.gap_fixed_bytes + work * cost.gap_fraction) * scale)
    kept = output / TILE_STRIDE**2
    one_tile = cost.fixed_bytes + size**2 * per_pixel
    work = kept + max(one_tile, BLEND_COPIES * output)
    return int(work * scale), int(work * cost.tiled_gap_fraction * scale)


def text_bytes(problem: Problem) -> tuple[int, int]:
    """Activations and gap of encoding one prompt."""
    cost = problem.facts.text
    scale = _activation_scale(problem, problem.names_by_role["encoder"])
    return int((cost.fixed_bytes + cost.tokens * cost.bytes_per_token) * scale), int(cost.gap_bytes * scale)


def _activation_scale(problem: Problem, names: tuple[str, ...]) -> float:
    """Activations grow with the element size of the widest planned dtype; coefficients are for two bytes."""
    return max((DTYPE_BYTES[problem.dtype[name]] for name in names), default=2) / 2
