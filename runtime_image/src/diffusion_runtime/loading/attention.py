"""Which kernel computes attention in a transformer, by the plan's name for it.

`native` is torch's own choice, cuDNN on Hopper. `flash4` is FlashAttention-4 (the package flash-attn-4): the
faster one for long sequences on Hopper, 669 against 562 TFLOP/s at 32,760 tokens, the slower one for short
ones, 405 against 583 at 4,352 (one H200). It reads no masks. Nothing is downloaded, unlike diffusers' own
way to it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .refusal import EngineRefusal

NATIVE = "native"
DIFFUSERS_NAMES = {"cudnn": "_native_cudnn", "flash": "_native_flash", "flash4": "flash_4_hub"}
BACKENDS = (NATIVE, *DIFFUSERS_NAMES)


def apply_attention(transformer: Any, backend: str, device_type: str) -> None:
    """Set the backend of every attention of a transformer; before its blocks are compiled.

    Raises EngineRefusal (LayoutUnsupported) where the kernel is not here.
    """
    if backend == NATIVE:
        return
    if device_type != "cuda":
        raise _refusal(backend, "a CUDA device; on the CPU use native")
    dispatch = import_module("diffusers.models.attention_dispatch")
    name = dispatch.AttentionBackendName(DIFFUSERS_NAMES[backend])
    if backend == "flash4":
        # diffusers would fetch a kernel of this name from a hub; it gets the installed one instead.
        dispatch._HUB_KERNELS_REGISTRY[name].kernel_fn = _flash4()
    for module in transformer.modules():
        if hasattr(getattr(module, "processor", None), "_attention_backend"):
            module.processor._attention_backend = name


def _flash4() -> Any:
    """FlashAttention-4 as one opaque step of a compiled graph. q, k, v: (batch, tokens, heads, width)."""
    import torch

    if find_spec("flash_attn") is None or find_spec("flash_attn.cute") is None:
        raise _refusal("flash4", "the package flash-attn-4, which is not installed here")
    if torch.cuda.get_device_capability()[0] < 9:
        raise _refusal("flash4", f"a Hopper GPU or newer, not {torch.cuda.get_device_name()}")
    kernel = import_module("flash_attn.cute").flash_attn_func

    # Spelled out: torch reads the types of a signature where the module is, and there is no torch there.
    schema = "(Tensor q, Tensor k, Tensor v, float? scale) -> Tensor"

    @torch.library.custom_op("diffusion_runtime::flash4", mutates_args=(), schema=schema)
    def step(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None) -> torch.Tensor:
        out = kernel(q.contiguous(), k.contiguous(), v.contiguous(), softmax_scale=scale)
        result: torch.Tensor = out[0] if isinstance(out, tuple) else out
        return result

    @step.register_fake
    def shape(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, scale: float | None) -> torch.Tensor:  # noqa: ARG001
        return q.new_empty((*q.shape[:-1], v.shape[-1]))

    def call(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, softmax_scale: float | None, causal: bool
    ) -> torch.Tensor:
        if causal:
            raise ValueError("flash4 is used for attention over all tokens only")
        result: torch.Tensor = step(q, k, v, softmax_scale)
        return result

    return call


def _refusal(backend: str, needed: str) -> EngineRefusal:
    return EngineRefusal("LayoutUnsupported", f"attention.backend={backend} needs {needed}.")
