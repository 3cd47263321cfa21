"""What the Qwen-Image-Edit pipelines call to read pictures and words together.

transformers' Qwen2VLProcessor cannot be built without torchvision, for its half that reads videos. These
pipelines send pictures and words only: the parts that read those, from transformers too, are put together
here. The picture reader is the one without torchvision, which computes with Pillow.
"""

from __future__ import annotations

from typing import Any

from transformers import BatchFeature, Qwen2Tokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

PICTURE = "<|image_pad|>"


class PictureTextProcessor:
    """Each `<|image_pad|>` of a text becomes as many as the picture in its place has tokens."""

    def __init__(self, pictures: Any, tokenizer: Any) -> None:
        self.pictures, self.tokenizer = pictures, tokenizer

    @classmethod
    def from_pretrained(cls, folder: str, **options: Any) -> PictureTextProcessor:
        """From the folder that Qwen2VLProcessor saves."""
        return cls(
            Qwen2VLImageProcessorPil.from_pretrained(folder, **options),
            Qwen2Tokenizer.from_pretrained(folder, **options),
        )

    def __call__(self, text: list[str], images: Any, padding: bool, return_tensors: str) -> BatchFeature:
        """Token ids and mask (texts, tokens), pixels of patches, and each picture's grid (3,)."""
        seen = self.pictures(images=images, return_tensors=return_tensors)
        counts = (seen["image_grid_thw"].prod(dim=1) // self.pictures.merge_size**2).tolist()
        words = [self._with_room(each, counts) for each in text]
        read = self.tokenizer(words, padding=padding, return_tensors=return_tensors)
        return BatchFeature({**read, **seen})

    @staticmethod
    def _with_room(text: str, counts: list[int]) -> str:
        pieces = text.split(PICTURE)
        if len(pieces) - 1 != len(counts):
            raise ValueError(f"the text has room for {len(pieces) - 1} pictures, not for {len(counts)}")
        rooms = [PICTURE * count for count in counts] + [""]
        return "".join(piece + room for piece, room in zip(pieces, rooms, strict=True))
