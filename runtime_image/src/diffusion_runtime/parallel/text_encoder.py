"""Tensor parallelism of a text encoder: its matrices sliced over all ranks, whatever splits the transformer.

All ranks encode the same prompt; each computes with a part of the heads and hidden units, and the parts are
summed. The plan is transformers' own (`base_model_tp_plan` of the text config). Its loader is not used: it
would place the weights, which here the residency decides afterwards. What the plan does not slice
(embeddings, norms, a picture tower) stays whole on every rank.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from diffusion_runtime.storage import Fill, Target

ROWS, COLUMNS = "colwise", "rowwise"
"""transformers' words for slicing a linear layer by its outputs and by its inputs."""


@dataclass(frozen=True)
class _Cut:
    """What this rank holds of a parameter: `size` of dimension `dim`, from `start` on."""

    dim: int
    start: int
    size: int
    whole: torch.Size


def slice_text_encoder(encoder: Any, fill: Fill) -> Fill:
    """Cut the encoder's parameters (on the meta device) to this rank's part; returns what fills them.

    ValueError for a class without a plan, and for a matrix that the ranks do not divide.
    """
    rank, ranks = dist.get_rank(), dist.get_world_size()
    cuts: dict[str, _Cut] = {}
    for path, style, linear in _planned(encoder):
        if style == ROWS:
            cuts |= {
                f"{path}.{key}": _cut(linear, key, 0, rank, ranks) for key, _ in linear.named_parameters()
            }
        else:
            cuts[f"{path}.weight"] = _cut(linear, "weight", 1, rank, ranks)
            linear.register_forward_hook(_sum)
    return lambda targets: _fill(targets, cuts, fill)


def _planned(encoder: Any) -> Iterator[tuple[str, str, torch.nn.Linear]]:
    """Path, style and layer of everything that the plan slices."""
    text = encoder.config.get_text_config()
    plan: dict[str, str] = getattr(text, "base_model_tp_plan", None) or {}
    cut = {pattern: style for pattern, style in plan.items() if not style.startswith("replicated")}
    if not cut or set(cut.values()) - {ROWS, COLUMNS}:
        raise ValueError(f"{type(encoder).__name__} has no tensor-parallel plan that this engine knows")
    # A picture tower has layers of the same names, so only the text model is looked at.
    root, model = next(
        (path, module)
        for path, module in encoder.named_modules()
        if hasattr(module, "layers") and getattr(module, "config", None) == text
    )
    for path, module in model.named_modules():
        style = cut.get(re.sub(r"\.\d+(?=\.|$)", ".*", path))
        if style is None:
            continue
        if not isinstance(module, torch.nn.Linear) or (style == COLUMNS and module.bias is not None):
            raise ValueError(f"{path} of {type(encoder).__name__} cannot be sliced: {module}")
        yield f"{root}.{path}" if root else path, style, module


def _cut(linear: torch.nn.Linear, key: str, dim: int, rank: int, ranks: int) -> _Cut:
    parameter = linear._parameters[key]
    assert parameter is not None  # noqa: S101  # a missing bias is no key here
    whole = parameter.shape
    if whole[dim] % ranks:
        raise ValueError(f"{ranks} ranks do not divide a text encoder's matrix of {tuple(whole)}")
    size = whole[dim] // ranks
    mine = parameter.data.narrow(dim, rank * size, size).contiguous()
    linear._parameters[key] = torch.nn.Parameter(mine, requires_grad=False)
    return _Cut(dim, rank * size, size, whole)


def _sum(_: torch.nn.Module, __: Any, output: torch.Tensor) -> torch.Tensor:
    dist.all_reduce(output)
    return output


def _fill(targets: Sequence[Target], cuts: dict[str, _Cut], fill: Fill) -> None:
    """Rows are read from where they begin. Columns lie apart in a file: the matrix is read whole, one at a
    time, so that the host never holds many.
    """
    columns = [(name, tensor) for name, tensor, _ in targets if name in cuts and cuts[name].dim]
    apart = {name for name, _ in columns}
    fill([
        (name, tensor, first + (cuts[name].start if name in cuts else 0))
        for name, tensor, first in targets
        if name not in apart
    ])  # fmt: skip
    for name, tensor in columns:
        cut = cuts[name]
        whole = torch.empty(cut.whole, dtype=tensor.dtype)
        fill([(name, whole, 0)])
        tensor.copy_(whole.narrow(cut.dim, cut.start, cut.size))
