"""What both trainings share: a step recorded as a CUDA graph, averaged weights, a learning-rate curve.

The models are so small that launching kernels one by one costs several times their work; a recorded step is
replayed instead. On the CPU the same step simply runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class Trainer:
    """AdamW over a module's parameters, with an exponential moving average of them in float32."""

    def __init__(
        self, module: nn.Module, peak_rate: float, average_decay: float, weight_decay: float
    ) -> None:
        self.parameters = [value for value in module.parameters() if value.requires_grad]
        self.cuda = self.parameters[0].is_cuda
        self.peak_rate, self.average_decay = peak_rate, average_decay
        self.rate = torch.tensor(0.0, device=self.parameters[0].device)
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=self.rate,
            betas=(0.9, 0.99),
            weight_decay=weight_decay,
            fused=self.cuda,
            capturable=self.cuda,
        )
        self.averages = [value.detach().clone() for value in self.parameters]
        self.steps = 0

    def record(self, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
        """A call that takes one step on `loss` and returns it detached; recorded once on a GPU."""

        def run() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            value = loss()
            torch.autograd.backward(value)
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            return value.detach()

        return _recorded(run) if self.cuda else run

    @torch.no_grad()
    def after_step(self, progress: float) -> None:
        """Averages the weights and sets the next step's rate; `progress` is 0..1 of the time to train."""
        self.steps += 1
        decay = min(self.average_decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.averages, [value.detach() for value in self.parameters], 1 - decay)
        self.rate.fill_(learning_rate(self.peak_rate, self.steps, progress))

    @torch.no_grad()
    def finish(self) -> None:
        """Puts the averaged weights into the module."""
        for target, value in zip(self.parameters, self.averages, strict=True):
            target.copy_(value)


def _recorded(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(4):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        value = run()

    def replay() -> Tensor:
        graph.replay()
        return value

    return replay


def learning_rate(peak: float, step: int, progress: float, warmup_steps: int = 300) -> float:
    """Linear warm-up, then half a cosine down to 1 % of the peak at `progress` 1."""
    fall = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    return peak * min(1.0, step / warmup_steps) * fall
