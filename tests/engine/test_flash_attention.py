"""FlashAttention-4 as a step of a compiled graph. The kernel needs a Hopper GPU; here torch stands in."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from diffusion_runtime.loading import attention


def plain(q: Any, k: Any, v: Any, softmax_scale: float | None) -> tuple[torch.Tensor, None]:
    """What flash_attn.cute returns: the result and, unasked, nothing of the sums."""
    heads_first = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(*heads_first, scale=softmax_scale)
    return out.transpose(1, 2), None


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package flash-attn-4, and a Hopper GPU."""
    kernel = ModuleType("flash_attn.cute")
    kernel.flash_attn_func = plain  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "flash_attn.cute", kernel)
    monkeypatch.setattr(attention, "find_spec", lambda _: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))


@pytest.mark.usefixtures("package")
def test_it_attends_as_torch_does_and_can_be_made_for_a_second_transformer() -> None:
    q, k, v = torch.randn(3, 1, 5, 2, 8).unbind()
    for _ in range(2):
        drawn = attention._flash4()(q, k, v, softmax_scale=None, causal=False)
        torch.testing.assert_close(drawn, plain(q, k, v, None)[0])


@pytest.mark.usefixtures("package")
def test_it_has_a_shape_without_being_run() -> None:
    step = attention._flash4()
    with torch.device("meta"):
        q, k, v = torch.empty(1, 5, 2, 8), torch.empty(1, 7, 2, 8), torch.empty(1, 7, 2, 16)
    assert step(q, k, v, softmax_scale=0.5, causal=False).shape == (1, 5, 2, 16)


@pytest.mark.usefixtures("package")
def test_a_causal_call_is_refused() -> None:
    q = torch.randn(1, 5, 2, 8)
    with pytest.raises(ValueError, match="all tokens only"):
        attention._flash4()(q, q, q, softmax_scale=None, causal=True)
