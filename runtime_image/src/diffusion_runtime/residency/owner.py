"""The one owner of where every component of a pipeline is.

A pipeline calls its components; each call first brings the component onto the device and sends the one that
was there before away, so at most one moved component is on the device at a time. What is resident never
moves. Nothing is decided here: `placement` says how each component moves, the plan said whether.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any, Literal

import torch

from .placement import InUse

Phase = Literal["text", "denoise", "decode"]
OnUse = Callable[[str, Phase], None]


class ComponentOwner:
    """Knows every component by name. Components work inside `one_request` only."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._in_use: dict[str, InUse] = {}
        self._any_moves = False
        self._on_use: OnUse | None = None
        self._device_holds: str | None = None
        self._leave = ExitStack()

    @property
    def on_device(self) -> str | None:
        """The component that was called last; None between requests."""
        return self._device_holds

    def add(self, name: str, module: torch.nn.Module, in_use: InUse, phase: Phase, *, moves: bool) -> None:
        """Own `module` from now on. A module with `encode` and `decode` (a VAE) belongs to two phases.

        `moves`: its weights are on the device only while it is in use.
        """
        self._in_use[name] = in_use
        self._any_moves |= moves
        if hasattr(module, "decode"):
            self._before(module, "encode", name, "text")
            self._before(module, "decode", name, "decode")
        else:
            # First of all hooks: a hook that gathers or streams must find the component on the device.
            module.register_forward_pre_hook(lambda *_: self.use(name, phase), prepend=True)

    @contextmanager
    def one_request(self, on_use: OnUse) -> Iterator[None]:
        """Inside, calls move components; at the end all leave. `on_use(name, phase)` runs before a move."""
        if self._on_use is not None:
            raise RuntimeError("a request began before the one before it ended")
        self._on_use = on_use
        try:
            with self._leave:  # what leaves is told of an error, and can repair what it broke off
                yield
        finally:
            self._on_use, self._device_holds = None, None
            if self._any_moves and self._device.type == "cuda":
                # Else the next request's small tensors pin gigabytes that decoding left in the cache: 47.2
                # in place of 43.5 GiB for Qwen-Image at 2048 x 2048 with half of its blocks streamed.
                torch.cuda.empty_cache()

    def use(self, name: str, phase: Phase) -> None:
        """Bring one component onto the device; the one before it leaves first."""
        if self._on_use is None:
            raise RuntimeError(f"{name} was called outside of a request")
        if name == self._device_holds:
            return
        self._device_holds = None
        self._leave.close()
        self._on_use(name, phase)
        self._leave.enter_context(self._in_use[name]())
        self._device_holds = name

    def _before(self, module: torch.nn.Module, method: str, name: str, phase: Phase) -> None:
        original = getattr(module, method)

        @wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            self.use(name, phase)
            return original(*args, **kwargs)

        setattr(module, method, call)
