"""Pictures that a request brings, from files to what pipelines take. Runs in every rank alike."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from .undrawable import UndrawablePicture

MAX_INPUT_PIXELS = 50_000_000
"""A small file can unpack to any size; cameras stay below this."""


def open_picture(data: bytes, field: str) -> Image.Image:
    """A file to an upright RGB picture, whatever lies behind transparency in white.

    UndrawablePicture when it is none.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_INPUT_PIXELS:  # of the header: nothing is unpacked yet
                raise UndrawablePicture(
                    f"{field} is {image.width}x{image.height}; at most {MAX_INPUT_PIXELS:,} pixels are read.",
                    field,
                )
            upright = ImageOps.exif_transpose(image)
            layers = upright.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UndrawablePicture(f"{field} is no picture that can be read: {error}.", field) from error
    return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")


def filling(picture: Image.Image, width: int, height: int) -> Image.Image:
    """The picture scaled to fill the size, what sticks out on two sides cut off; unchanged if it has it."""
    return picture if picture.size == (width, height) else ImageOps.fit(picture, (width, height))


def blank_picture(width: int, height: int) -> bytes:
    """A grey picture as a file."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "grey").save(buffer, "PNG")
    return buffer.getvalue()
