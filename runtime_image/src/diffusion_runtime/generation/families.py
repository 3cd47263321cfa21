"""The call of each family that this engine draws. One line a family; the rest is in its module."""

from __future__ import annotations

from . import qwen_image
from .call import FamilyCall

CALLS: dict[str, FamilyCall] = {
    "qwen-image": FamilyCall(qwen_image.check, qwen_image.call),
}
