"""Cost of decoding in the VAEs that several families share: the causal video VAE and the picture VAE.

Coefficients are fitted on the decode cells at 512 and 1024 pixels squared and at 480p measured on one H200
(2026-11-23, torch 2.11, diffusers 0.42.1), and scale with the channels at full resolution. Tiles are fitted
on the one tiled cell at 1024 pixels squared.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusion_runtime.planning.facts import DecodeFacts

TILE_SIZES = (256, 384, 512, 768)
_TILED_GAP_FRACTION = 0.288
_LAUNCH_SECONDS = 11.62e-3
"""418 ms for 36 tiles of 256 pixels: launches set the pace, not the GPU."""
_VIDEO_CHANNELS = 96
_SHORTCUT_SHARE = 1.14
"""One more tensor beside the 7.4 that a decode holds at full resolution: counted, not measured."""
_PICTURE_CHANNELS = 128


def causal_picture_decode(config: Mapping[str, Any]) -> DecodeFacts:
    """`AutoencoderKLQwenImage`: one latent frame, one picture."""
    share = int(config["base_dim"]) / _VIDEO_CHANNELS
    return DecodeFacts(
        fixed_bytes=5.3e6 * share,
        bytes_per_pixel=4221 * share,
        gap_fixed_bytes=334e6 * share,
        gap_fraction=0.0465,
        tiled_gap_fraction=_TILED_GAP_FRACTION,
        seconds_fixed=4.5e-3,
        seconds_per_pixel_frame=59.3e-9 * share**2,
        launch_seconds=_LAUNCH_SECONDS,
        tile_size=256,
        tile_sizes=TILE_SIZES,
    )


def packed_pixels(config: Mapping[str, Any]) -> int:
    """Pixels a side that an `AutoencoderKLWan` packs into channels first; 1 but for Wan 2.2's 5B model."""
    return int(config.get("patch_size") or 1)


def causal_video_decode(config: Mapping[str, Any]) -> DecodeFacts:
    """`AutoencoderKLWan`: one latent frame after the other, each becoming four frames, with cached edges.

    That of Wan 2.2's 5B model works on pixels packed `patch_size` a side, with shortcuts around its blocks.
    """
    share = int(config.get("decoder_base_dim") or config["base_dim"]) / _VIDEO_CHANNELS
    packed = packed_pixels(config) ** 2
    kept = _SHORTCUT_SHARE if config.get("is_residual") else 1.0
    return DecodeFacts(
        bytes_per_pixel=11_310 * share * kept / packed,
        gap_fraction=0.466,
        tiled_gap_fraction=_TILED_GAP_FRACTION,
        seconds_per_pixel_frame=56.2e-9 * share**2 / packed,
        launch_seconds=_LAUNCH_SECONDS,
        frames_at_once=4,
        tile_size=256,
        tile_sizes=TILE_SIZES,
    )


def picture_decode(config: Mapping[str, Any]) -> DecodeFacts:
    """`AutoencoderKL` of FLUX.1 and Z-Image: the whole picture at once. Its tiles were not measured."""
    share = int(config["block_out_channels"][0]) / _PICTURE_CHANNELS
    return DecodeFacts(
        fixed_bytes=42.2e6 * share,
        bytes_per_pixel=2427 * share,
        gap_fraction=0.19,
        tiled_gap_fraction=0.746,
        seconds_per_pixel_frame=81.0e-9 * share**2,
        launch_seconds=_LAUNCH_SECONDS,
        tile_size=512,
        tile_sizes=(256, 512, 768),
    )
