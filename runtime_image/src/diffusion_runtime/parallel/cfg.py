"""Classifier-free guidance over two ranks: rank 0 predicts with the prompt, rank 1 with the negative prompt.

A pipeline calls its transformer twice a step, first with the prompt (diffusers' QwenImagePipeline and
WanPipeline do), and reads neither prediction before the second call returns. So the first call hands rank 1 a
placeholder of NaN; in the second call each rank has its own prediction, both are gathered, and the
placeholder is filled in place. Every rank then combines and steps the scheduler itself. A pipeline that read
the placeholder early would draw NaN, which is refused as a failed request, never shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

CONDITIONAL, UNCONDITIONAL = 0, 1


class CfgBranches:
    """Wraps the call of one transformer. `rank` is 0 or 1 in `group` (None: the default group).

    Outside `guided()` every rank computes every call, without communication.
    The call is wrapped and not `forward`: the hooks of a sharded transformer gather weights, and must run
    only for the branch that this rank computes, else ranks gather different weights at the same time.
    """

    def __init__(
        self, transformer: torch.nn.Module, rank: int, group: dist.ProcessGroup | None = None
    ) -> None:
        base = type(transformer)
        self._forward = partial(base.__call__, transformer)
        self._rank = rank
        self._group = group
        self._guided = False
        self._conditional: torch.Tensor | None = None
        calls = {"__call__": lambda _, *args, **kwargs: self._split_forward(*args, **kwargs)}
        transformer.__class__ = type(base.__name__, (base,), calls)

    @contextmanager
    def guided(self) -> Iterator[None]:
        """One request with guidance: calls alternate prompt, negative prompt. Both ranks must enter alike."""
        self._guided, self._conditional = True, None
        try:
            yield
            if self._conditional is not None:
                raise RuntimeError(
                    "the pipeline called the transformer an odd number of times under guidance"
                )
        finally:
            self._guided, self._conditional = False, None

    def _split_forward(self, *args: Any, **kwargs: Any) -> Any:
        if not self._guided:
            return self._forward(*args, **kwargs)
        if kwargs.get("return_dict", True):
            raise RuntimeError(
                "CFG parallel needs a pipeline that calls its transformer with return_dict=False"
            )
        latents: torch.Tensor = kwargs["hidden_states"]
        if self._conditional is None:
            self._conditional = self._predict_if(CONDITIONAL, latents, *args, **kwargs)
            return (self._conditional,)
        unconditional = self._predict_if(UNCONDITIONAL, latents, *args, **kwargs)
        self._exchange(self._conditional, unconditional)
        self._conditional = None
        return (unconditional,)

    def _predict_if(self, branch: int, latents: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """This rank's own branch, or a placeholder of the same shape: a prediction has the latents' shape and
        dtype.
        """
        if branch != self._rank:
            return torch.full_like(latents, torch.nan)
        prediction: torch.Tensor = self._forward(*args, **kwargs)[0]
        if prediction.shape != latents.shape or prediction.dtype != latents.dtype:
            raise RuntimeError(
                f"prediction {tuple(prediction.shape)} {prediction.dtype} is not like its latents "
                f"{tuple(latents.shape)} {latents.dtype}"
            )
        return prediction.contiguous()

    def _exchange(self, conditional: torch.Tensor, unconditional: torch.Tensor) -> None:
        """Fill the branch this rank did not compute, in place.

        Bytes are sent, so any dtype works on any backend.
        """
        pair = (conditional, unconditional)
        mine = pair[self._rank].view(torch.uint8)
        gathered = [torch.empty_like(mine) for _ in pair]
        dist.all_gather(gathered, mine, group=self._group)
        other = 1 - self._rank
        pair[other].copy_(gathered[other].view(pair[other].dtype))


def apply_cfg_parallel(transformer: torch.nn.Module, mesh: DeviceMesh) -> CfgBranches:
    """Split guidance over the two ranks of a one-dimensional mesh."""
    if mesh.size() != 2:
        raise ValueError(f"CFG parallel needs 2 ranks, the mesh has {mesh.size()}")
    return CfgBranches(transformer, mesh.get_local_rank(), mesh.get_group())
