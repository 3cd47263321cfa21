"""The coefficients in the family files are what the fitted cells alone give; no held-out cell had a say."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.models.z_image import EXPANDED_GAP
from diffusion_runtime.planning.facts import ForwardBytes, ModelFacts
from measured.cells import MODEL_IDS, Cell, cells

FITTED = [cell for cell in cells() if not cell.held_out]
CLIP_TOKENS = 32_760
"""832 x 480 with 81 frames."""


def forwards(model: str, *, compiled: bool) -> list[Cell]:
    return [c for c in FITTED if c.raw["model"] == model and c.phase == "denoise" and c.compiled == compiled]


def base(cell: Cell) -> int:
    """Allocated before the first block, above the weights."""
    return int(cell.raw["baseBytes"] - cell.raw["weightsBytes"])


def work(cell: Cell) -> int:
    """Allocated by the blocks."""
    return int(cell.raw["peakAllocatedBytes"] - cell.raw["baseBytes"])


def gap(cell: Cell) -> int:
    """Reserved beyond allocated."""
    return int(cell.raw["peakReservedBytes"] - cell.raw["peakAllocatedBytes"])


def share(pairs: Iterable[tuple[float, float, float]]) -> float:
    """k that makes y = k x with the least squared error, each row's error relative to its scale."""
    rows = list(pairs)
    return sum(x * y / s**2 for x, y, s in rows) / sum(x * x / s**2 for x, _, s in rows)


def gap_share(found: list[Cell]) -> float:
    return share((work(c), gap(c), work(c) + gap(c) + base(c)) for c in found)


def bytes_of(model: str, *, compiled: bool) -> ForwardBytes:
    denoise = facts_for(MODEL_IDS[model]).denoise
    return denoise.compiled if compiled else denoise.eager


def tokens(cell: Cell) -> int:
    shape = cell.raw["shape"]
    return int(shape["width"] * shape["height"] // 256 + shape["textTokens"])


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("model", ["FLUX.1-dev", "Z-Image"])
def test_single_stream(model: str, compiled: bool) -> None:
    """Every token of the stream costs the same; base is what was there before."""
    found, told = forwards(model, compiled=compiled), bytes_of(model, compiled=compiled)
    assert told.bytes_per_token == pytest.approx(
        share((tokens(c), work(c), work(c)) for c in found), rel=0.005
    )
    assert told.fixed_bytes == pytest.approx(sum(map(base, found)) / len(found), rel=0.01)


@pytest.mark.parametrize("compiled", [False, True])
def test_flux_gap(compiled: bool) -> None:
    found = forwards("FLUX.1-dev", compiled=compiled)
    assert bytes_of("FLUX.1-dev", compiled=compiled).gap_share == pytest.approx(gap_share(found), rel=0.01)


def test_z_image_gap_has_a_fixed_part() -> None:
    small, large = forwards("Z-Image", compiled=False)
    slope = (gap(large) - gap(small)) / (work(large) - work(small))
    told, compiled = bytes_of("Z-Image", compiled=False), bytes_of("Z-Image", compiled=True)
    fixed = gap(small) - slope * work(small)
    assert told.gap_share == pytest.approx(EXPANDED_GAP * slope, rel=0.005)
    assert told.gap_fixed_bytes == pytest.approx(EXPANDED_GAP * fixed, rel=0.005)
    (cell,) = forwards("Z-Image", compiled=True)
    share = (gap(cell) - fixed) / work(cell)
    assert compiled.gap_share == pytest.approx(EXPANDED_GAP * share, rel=0.005)


def test_qwen_image_text_tokens_weigh_less() -> None:
    small, large = forwards("Qwen-Image", compiled=False)
    per_token = (work(large) - work(small)) / 3072
    told, denoise = bytes_of("Qwen-Image", compiled=False), facts_for("Qwen/Qwen-Image").denoise
    assert told.bytes_per_token == pytest.approx(per_token, rel=0.005)
    weight = (work(small) - 1024 * per_token) / 256 / per_token
    assert denoise.text_token_weight == pytest.approx(weight, rel=0.005)
    assert told.gap_share == pytest.approx(gap_share([small, large]), rel=0.005)
    (cell,) = forwards("Qwen-Image", compiled=True)
    assert denoise.compiled.bytes_per_token == pytest.approx(work(cell) / (4096 + 256 * weight), rel=0.005)
    assert denoise.compiled.gap_share == pytest.approx(gap(cell) / work(cell), rel=0.005)
    assert denoise.compiled.fixed_bytes == pytest.approx(base(cell), rel=0.005)


def test_wan_peaks_in_attention_or_in_its_feed_forward_part() -> None:
    """The 14B model tells the one, the 1.3B model the other; compiled, one formula holds for both."""
    sizes = {"Wan2.1-T2V-1.3B": (1536, 8960), "Wan2.1-T2V-14B": (5120, 13_824)}
    eager = {model: forwards(model, compiled=False)[0] for model in sizes}
    compiled = {model: forwards(model, compiled=True)[0] for model in sizes}
    for model, cell in eager.items():
        told = bytes_of(model, compiled=False)
        assert told.bytes_per_token == pytest.approx(work(cell) / CLIP_TOKENS, rel=0.005)
        assert told.fixed_bytes == pytest.approx(base(cell), rel=0.005)
        assert told.gap_share == pytest.approx(gap_share(list(eager.values())), rel=0.005)
    per_channel = share(
        (
            sizes[model][0],
            work(cell) / CLIP_TOKENS - 2 * sizes[model][1],
            work(cell) / CLIP_TOKENS,
        )
        for model, cell in compiled.items()
    )
    for model, (channels, wide) in sizes.items():
        told = bytes_of(model, compiled=True)
        assert told.bytes_per_token == pytest.approx(per_channel * channels + 2 * wide, rel=0.005)
        assert told.gap_share == pytest.approx(gap_share(list(compiled.values())), rel=0.005)


@pytest.mark.parametrize(
    ("model", "cell_model", "line"),
    [
        ("Qwen/Qwen-Image", "Qwen-Image", lambda d: d.bytes_per_pixel + d.output_bytes_per_pixel_frame),
        ("Tongyi-MAI/Z-Image", "FLUX.1-dev/Z-Image", lambda d: d.bytes_per_pixel + 6),
    ],
)
def test_decode_is_a_line_through_two_sizes(
    model: str, cell_model: str, line: Callable[[object], float]
) -> None:
    small, large = (c for c in FITTED if c.raw["model"] == cell_model and c.phase == "decode" and not c.tiled)
    facts: ModelFacts = facts_for(model)
    per_pixel = (large.allocated[1] - small.allocated[1]) / (1024**2 - 512**2)
    assert line(facts.decode) == pytest.approx(per_pixel, rel=0.001)
    assert facts.decode.fixed_bytes == pytest.approx(large.allocated[1] - per_pixel * 1024**2, rel=0.02)


def test_clip_decode_and_tiles_come_from_one_cell_each() -> None:
    (clip,) = (c for c in FITTED if c.raw["model"] == "Wan2.1" and c.phase == "decode")
    decode = facts_for(MODEL_IDS["Wan2.1"]).decode
    output = 6 * 81
    assert decode.bytes_per_pixel + output == pytest.approx(clip.allocated[1] / (832 * 480), rel=0.001)
    assert decode.gap_fraction == pytest.approx(gap(clip) / clip.allocated[1], rel=0.01)
    (tiled,) = (c for c in FITTED if c.tiled)
    assert decode.tiled_gap_fraction == pytest.approx(gap(tiled) / tiled.allocated[1], rel=0.01)
    assert decode.launch_seconds == pytest.approx(tiled.seconds[1] / 36, rel=0.001)


@pytest.mark.parametrize("model", ["Qwen-Image", "FLUX.1-dev", "Z-Image"])
def test_launches_set_the_pace_of_the_smallest_picture(model: str) -> None:
    small = forwards(model, compiled=False)[0]
    assert facts_for(MODEL_IDS[model]).denoise.launch_seconds == pytest.approx(small.seconds[1], rel=0.002)
