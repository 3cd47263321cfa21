"""Repeated blocks compiled, one graph for all of them, for declared sizes only.

What is compiled is a block's inner `forward`: hooks (layerwise moves, FSDP gathers) run outside of the graph,
and must be there before the first compiled call. Sizes are exact; only what varies with a prompt's length is
dynamic. A picture of another size runs the same blocks uncompiled. Nothing is compiled before the warm-up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import Signature, signature
from typing import Any, Literal

import torch

Size = tuple[int, int, int, float]
"""Width and height in pixels, frames, frames a second where the model computes with them (else 0)."""
GRAPHS_AT_MOST = 64
"""Eight declared shapes and what a family adds; beyond torch's own limit it would silently run uncompiled."""


class CompiledBlocks:
    """Switches all blocks between eager and compiled. `warmed` are sizes that have graphs; `used`
    says whether the last request ran compiled.

    `varying`: of each block call, argument and dimension of what follows the prompt's length; `name.1` is
    item 1 of `name`.
    """

    def __init__(self, varying: Sequence[tuple[str, int]]) -> None:
        self.warmed: set[Size] = set()
        self.used = False
        self._varying = varying
        self._now: Literal["eager", "warming", "compiled"] = "eager"
        torch._dynamo.config.recompile_limit = GRAPHS_AT_MOST

    def add(self, blocks: Sequence[torch.nn.Module]) -> None:
        """Make blocks of one transformer switchable; before they are sharded or called."""
        for block in blocks:
            compiled = torch.compile(block.forward, dynamic=False)
            block.forward = self._switch(block.forward, compiled, signature(block.forward))

    @contextmanager
    def warming(self, size: Size) -> Iterator[None]:
        """Compile whatever runs inside; afterwards `size` counts as warmed."""
        yield from self._while("warming")
        self.warmed.add(size)

    @contextmanager
    def in_use(self, size: Size) -> Iterator[None]:
        """Compiled inside when `size` was warmed, else eager; inside `warming` this changes nothing."""
        if self._now == "warming":
            yield
            return
        self.used = size in self.warmed
        yield from self._while("compiled" if self.used else "eager")

    def _while(self, now: Literal["eager", "warming", "compiled"]) -> Iterator[None]:
        before, self._now = self._now, now
        try:
            yield
        finally:
            self._now = before

    def _switch(
        self, eager: Callable[..., Any], compiled: Callable[..., Any], its: Signature
    ) -> Callable[..., Any]:
        def forward(*args: Any, **kwargs: Any) -> Any:
            if self._now == "eager":
                return eager(*args, **kwargs)
            if self._now == "warming":
                self._mark(its.bind(*args, **kwargs).arguments)
            return compiled(*args, **kwargs)

        return forward

    def _mark(self, arguments: dict[str, Any]) -> None:
        """Make the varying dimensions symbols of the graph that is about to be traced."""
        for path, dimension in self._varying:
            name, _, item = path.partition(".")
            value: Any = arguments.get(name)
            tensor = value[int(item)] if item else value
            if tensor is not None:
                torch._dynamo.mark_dynamic(tensor, dimension)
