"""The call of each pipeline that this engine draws. One line a pipeline; the rest is in its module."""

from __future__ import annotations

from diffusion_runtime.parallel.cfg import OneBatch, TwoCalls

from . import flux, ltx_2, ltx_2_stages, qwen_image, qwen_image_edit, wan, z_image
from .call import FamilyCall

CALLS: dict[str, FamilyCall] = {
    "QwenImagePipeline": FamilyCall(qwen_image.check, qwen_image.call),
    "QwenImageEditPipeline": FamilyCall(qwen_image_edit.check, qwen_image_edit.call),
    "QwenImageEditPlusPipeline": FamilyCall(qwen_image_edit.check, qwen_image_edit.call),
    "ZImagePipeline": FamilyCall(
        z_image.check, z_image.call, OneBatch(z_image.BATCHED), z_image.WARM_PROMPTS
    ),
    "FluxPipeline": FamilyCall(flux.check, flux.call),
    "WanPipeline": FamilyCall(wan.check, wan.call),
    "WanImageToVideoPipeline": FamilyCall(
        wan.check_with_picture, wan.call_with_picture, TwoCalls(narrowed_dim=1)
    ),
    "LTX2Pipeline": FamilyCall(
        ltx_2_stages.check,
        ltx_2.call,
        OneBatch(ltx_2.BATCHED),
        rate_counts=True,
        call_in_two_stages=ltx_2_stages.call,
    ),
}
