"""Pixels to the bytes of a file. Runs in rank 0, so that the parent never waits for an encoder."""

from __future__ import annotations

import io

import torch
from PIL import Image

from .messages import OutputFormat, PictureRequest
from .sound import Sound


def encode(pixels: torch.Tensor, sound: Sound | None, request: PictureRequest) -> bytes:
    """Pixels (frames, height, width, 3) uint8 to the file that the request asks for."""
    if request.output_format == "mp4":
        from .clip_encoding import encode_clip  # FFmpeg is for ranks that draw clips

        return encode_clip(pixels, request.fps, sound, torch.get_num_threads())
    return encode_picture(pixels[0], request.output_format, request.compression)


def encode_picture(pixels: torch.Tensor, output_format: OutputFormat, compression: int) -> bytes:
    """Pixels (height, width, 3) uint8 to a file. `compression` 0-100 is the quality of JPEG and WebP."""
    image = Image.fromarray(pixels.numpy())
    buffer = io.BytesIO()
    if output_format == "png":
        image.save(buffer, "PNG")
    else:
        image.save(buffer, output_format.upper(), quality=compression)
    return buffer.getvalue()
