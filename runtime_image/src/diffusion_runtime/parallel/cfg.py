"""Classifier-free guidance over two ranks: rank 0 predicts with the prompt, rank 1 with the negative prompt.

Pipelines run the two branches in one of two styles, which their families state:

`TwoCalls` (Qwen-Image, FLUX, Wan): the pipeline calls its transformer twice a step, first with the prompt,
and reads neither prediction before the second call returns. So the first call hands rank 1 a placeholder of
NaN; in the second call each rank has its own prediction, both are gathered, and the placeholder is filled in
place. A pipeline that read the placeholder early would draw NaN, which is refused as a failed request, never
shown.

`OneBatch` (Z-Image): one call with both branches, the prompt's in the first half of every batched argument.
Each rank computes its half and both halves are gathered. A branch computed alone needs no padding to the
length of the other, so predictions agree to rounding, not to the bit.

Every rank then combines and steps the scheduler itself.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

CONDITIONAL, UNCONDITIONAL = 0, 1


@dataclass(frozen=True)
class TwoCalls:
    """A prediction is shaped like the latents, `hidden_states`. `narrowed_dim`: but of this dimension the
    model returns as much as its config's `out_channels` (conditioning channels are not predicted).
    """

    narrowed_dim: int | None = None


@dataclass(frozen=True)
class OneBatch:
    """`arguments` of the transformer's forward that hold both branches: tensors or lists of tensors."""

    arguments: tuple[str, ...]


GuidanceStyle = TwoCalls | OneBatch


class CfgParallel:
    """The branches of every transformer of a pipeline."""

    def __init__(self, branches: Sequence[_Branches]) -> None:
        self._branches = branches

    @contextmanager
    def guided(self) -> Iterator[None]:
        """One request with guidance. Both ranks must enter alike."""
        with ExitStack() as entered:
            for branches in self._branches:
                entered.enter_context(branches.guided())
            yield


class _Branches(ABC):
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
        calls = {"__call__": lambda _, *args, **kwargs: self._called(*args, **kwargs)}
        transformer.__class__ = type(base.__name__, (base,), calls)

    @contextmanager
    def guided(self) -> Iterator[None]:
        """Inside, calls are split over the two ranks."""
        self._guided = True
        try:
            yield
        finally:
            self._guided = False

    def _called(self, *args: Any, **kwargs: Any) -> Any:
        if not self._guided:
            return self._forward(*args, **kwargs)
        if kwargs.get("return_dict", True):
            raise RuntimeError(
                "CFG parallel needs a pipeline that calls its transformer with return_dict=False"
            )
        return self._split(*args, **kwargs)

    @abstractmethod
    def _split(self, *args: Any, **kwargs: Any) -> Any:
        """What the transformer returns to the pipeline under guidance."""

    def _gather(self, mine: torch.Tensor) -> list[torch.Tensor]:
        """Both ranks' tensors, alike in shape. Bytes are sent, so any dtype works on any backend."""
        sent = mine.contiguous().view(torch.uint8)
        gathered = [torch.empty_like(sent) for _ in (CONDITIONAL, UNCONDITIONAL)]
        dist.all_gather(gathered, sent, group=self._group)
        return [part.view(mine.dtype) for part in gathered]


class CfgCalls(_Branches):
    """`TwoCalls`: calls alternate prompt, negative prompt."""

    def __init__(
        self,
        transformer: torch.nn.Module,
        rank: int,
        group: dist.ProcessGroup | None = None,
        style: TwoCalls | None = None,
    ) -> None:
        super().__init__(transformer, rank, group)
        self._narrowed: tuple[int, int] | None = None
        if style is not None and style.narrowed_dim is not None:
            config: Any = transformer.config
            self._narrowed = (style.narrowed_dim, config.out_channels)
        self._conditional: torch.Tensor | None = None

    @contextmanager
    def guided(self) -> Iterator[None]:
        """RuntimeError when the calls inside were odd in number."""
        self._conditional = None
        try:
            with super().guided():
                yield
            if self._conditional is not None:
                raise RuntimeError(
                    "the pipeline called the transformer an odd number of times under guidance"
                )
        finally:
            self._conditional = None

    def _split(self, *args: Any, **kwargs: Any) -> Any:
        if self._conditional is None:
            self._conditional = self._predict_if(CONDITIONAL, *args, **kwargs)
            return (self._conditional,)
        unconditional = self._predict_if(UNCONDITIONAL, *args, **kwargs)
        pair = (self._conditional, unconditional)
        other = 1 - self._rank
        pair[other].copy_(self._gather(pair[self._rank])[other])
        self._conditional = None
        return (unconditional,)

    def _predict_if(self, branch: int, *args: Any, **kwargs: Any) -> torch.Tensor:
        """This rank's own branch, or a placeholder of the same shape and dtype."""
        latents: torch.Tensor = kwargs["hidden_states"]
        shape = list(latents.shape)
        if self._narrowed is not None:
            dimension, channels = self._narrowed
            shape[dimension] = channels
        if branch != self._rank:
            return latents.new_full(shape, torch.nan)
        prediction: torch.Tensor = self._forward(*args, **kwargs)[0]
        if list(prediction.shape) != shape or prediction.dtype != latents.dtype:
            raise RuntimeError(
                f"prediction {tuple(prediction.shape)} {prediction.dtype} is not like its latents "
                f"{tuple(latents.shape)} {latents.dtype}"
            )
        return prediction.contiguous()


class CfgBatch(_Branches):
    """`OneBatch`: each rank calls the transformer with its half of the batch."""

    def __init__(
        self,
        transformer: torch.nn.Module,
        rank: int,
        group: dist.ProcessGroup | None,
        style: OneBatch,
    ) -> None:
        self._signature = inspect.signature(transformer.forward)
        self._batched = style.arguments
        super().__init__(transformer, rank, group)

    def _split(self, *args: Any, **kwargs: Any) -> Any:
        call = self._signature.bind(*args, **kwargs)
        for name in self._batched:
            call.arguments[name] = self._half(name, call.arguments[name])
        predictions = self._forward(*call.args, **call.kwargs)
        return tuple(self._both(prediction) for prediction in predictions)

    def _half(self, name: str, batch: Any) -> Any:
        if len(batch) % 2:
            raise RuntimeError(f"{name} holds {len(batch)} items, which are not two guidance branches")
        half = len(batch) // 2
        return batch[:half] if self._rank == CONDITIONAL else batch[half:]

    def _both(self, mine: Any) -> Any:
        """The whole batch, prompt's half first; a list where the model returned a list of equal tensors."""
        if isinstance(mine, torch.Tensor):
            return torch.cat(self._gather(mine))
        first, second = self._gather(torch.stack(mine))
        return [*first.unbind(), *second.unbind()]


def apply_cfg_parallel(
    transformers: Sequence[torch.nn.Module], mesh: DeviceMesh, style: GuidanceStyle
) -> CfgParallel:
    """Split the guidance of a pipeline over the two ranks of a one-dimensional mesh."""
    if mesh.size() != 2:
        raise ValueError(f"CFG parallel needs 2 ranks, the mesh has {mesh.size()}")
    rank, group = mesh.get_local_rank(), mesh.get_group()
    if isinstance(style, OneBatch):
        return CfgParallel([CfgBatch(transformer, rank, group, style) for transformer in transformers])
    return CfgParallel([CfgCalls(transformer, rank, group, style) for transformer in transformers])
