"""The call of each pipeline that this engine draws. One line a pipeline; the rest is in its module."""

from __future__ import annotations

from . import qwen_image, wan
from .call import FamilyCall

CALLS: dict[str, FamilyCall] = {
    "QwenImagePipeline": FamilyCall(qwen_image.check, qwen_image.call),
    "WanPipeline": FamilyCall(wan.check, wan.call),
}
