"""One planning question with everything settled that does not depend on the layout, and one possible answer
to it.

Both are plain frozen dataclasses: a search builds hundreds of them, documents are only made of the winner.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from diffusion_runtime.planning.calibrations import UNKNOWN_VERSIONS, Calibration, Versions, execution_key
from diffusion_runtime.planning.devices import Device
from diffusion_runtime.planning.documents import DtypeName, Layout, ResidencyMode, Shape
from diffusion_runtime.planning.facts import LayoutAxis, ModelFacts
from diffusion_runtime.planning.intent import Intent

TRANSFORMER_KINDS = frozenset({"transformer"})
ENCODER_KINDS = frozenset({"textEncoder", "imageEncoder"})
PREFETCH_BLOCKS = 1
"""Blocks fetched ahead under layerwise residency."""


@dataclass(frozen=True)
class Problem:
    """Facts, settled workload and intent, and the device that stands for the node's GPUs."""

    facts: ModelFacts
    shapes: tuple[Shape, ...]
    guided: bool
    intent: Intent
    dtype: dict[str, DtypeName]
    device: Device
    calibrations: tuple[Calibration, ...] = ()
    """Measurements of this model on this product in these dtypes."""
    versions: Versions = UNKNOWN_VERSIONS
    """What will run, where that is known."""
    memo: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)
    """Terms already worked out for this problem, by what they depend on."""

    @cached_property
    def measured(self) -> dict[Hashable, Calibration]:
        """Calibrations by the candidate that they measured; the last one given wins."""
        return {execution_key(c.execution): c for c in self.calibrations}

    @cached_property
    def unmeasured(self) -> Problem:
        """The same question by the formulas alone."""
        return self if not self.calibrations else replace(self, calibrations=(), memo={})

    @cached_property
    def proven_axes(self) -> tuple[LayoutAxis, ...]:
        """Axes that a mode may use by itself: the family says so, or they were measured on this product."""
        measured = {axis for c in self.calibrations for axis in c.axes}
        facts = self.facts
        return tuple(a for a in facts.correct_axes if a in facts.proven_axes or a in measured)

    @cached_property
    def largest_shape(self) -> Shape:
        """The shape that memory is planned for."""
        return max(self.shapes, key=lambda s: (s.width * s.height * s.frames, s.width))

    @cached_property
    def weights(self) -> dict[str, int]:
        """Bytes of each component in its planned dtype."""
        return {c.name: c.bytes(self.dtype[c.name]) for c in self.facts.components}

    @cached_property
    def names_by_role(self) -> dict[str, tuple[str, ...]]:
        """Component names by role in a request: transformer, encoder, vae, other."""
        roles: dict[str, list[str]] = {"transformer": [], "encoder": [], "vae": [], "other": []}
        for component in self.facts.components:
            if component.kind in TRANSFORMER_KINDS:
                roles["transformer"].append(component.name)
            elif component.kind in ENCODER_KINDS:
                roles["encoder"].append(component.name)
            else:
                roles["vae" if component.kind == "vae" else "other"].append(component.name)
        return {role: tuple(names) for role, names in roles.items()}


@dataclass(frozen=True)
class Choice:
    """What an engine would do: how many GPUs, how split, what lives where, how decoded."""

    gpus: int
    layout: Layout
    residency: tuple[tuple[str, ResidencyMode], ...]
    tile_size: int | None
    compiled: bool
    resident_blocks: int = 0
    """Blocks of each streamed transformer that stay on the GPU, evenly spread."""

    @cached_property
    def modes(self) -> dict[str, ResidencyMode]:
        """Residency by component name."""
        return dict(self.residency)

    @property
    def sequence_ranks(self) -> int:
        """Ranks over which one forward's tokens are split."""
        return self.layout.ulysses * self.layout.ring


@dataclass(frozen=True)
class Slot:
    """The room that a replica of some GPU count finds: its least-free GPU, its share of host memory."""

    free_bytes: int
    usable_bytes: int
    host_bytes: int | None
    replicas: int
