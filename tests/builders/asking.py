"""Types of the planning tests' fixtures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.documents import Plan

Plans = Callable[..., Plan]
Answers = Callable[..., Any]
Nodes = Callable[..., GpuNode]
Modes = Callable[[Plan], dict[str, str]]
