"""The whole forwards of tests/data/h200-anchors.json (one and two H200), each with its prediction."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.devices import device_from_product
from diffusion_runtime.planning.documents import ResidencyMode, Shape
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.memory_model import footprint
from diffusion_runtime.planning.problem import Choice, Problem
from diffusion_runtime.planning.time_model import predict_times
from measured.cells import DATA, one_gpu, sixteen_bit

GIB = 2**30


@dataclass(frozen=True)
class Anchor:
    """One measured forward or step."""

    raw: dict[str, Any]

    @property
    def name(self) -> str:
        """Model, shape and layout in words."""
        return str(self.raw["name"])

    @cached_property
    def _facts(self) -> ModelFacts:
        """The transformer alone, as it was measured."""
        facts = facts_for(self.raw["model"])
        tokens = self.raw.get("textTokens", facts.denoise.text_tokens)
        denoise = facts.denoise.model_copy(update={"text_tokens": tokens, "guidance_in_one_batch": False})
        return facts.model_copy(update={"denoise": denoise})

    @cached_property
    def _problem(self) -> Problem:
        raw = self.raw
        shape = Shape(width=raw["width"], height=raw["height"], frames=raw["frames"], steps=1)
        dtype = sixteen_bit(self._facts)
        return Problem(
            self._facts, (shape,), raw["passes"] == 2, Intent(), dtype, device_from_product("H200")
        )

    @cached_property
    def _choice(self) -> Choice:
        choice = one_gpu(self._facts, compiled=self.raw["compiled"], **self.raw["layout"])
        held: ResidencyMode = "layerwise" if self.raw["streamed"] else "resident"
        placement = tuple((n, held if n == "transformer" else mode) for n, mode in choice.residency)
        return replace(choice, residency=placement)

    @property
    def seconds(self) -> tuple[float, float]:
        """Predicted and measured seconds: one forward, or a step of two passes."""
        times = predict_times(self._problem, self._choice)
        predicted = times.step if self.raw["passes"] == 2 else times.forward
        return predicted, self.raw["milliseconds"] / 1000

    @property
    def peak(self) -> tuple[float, float] | None:
        """Predicted and measured allocated bytes of one rank in the forward; None where not measured."""
        if "peakGib" not in self.raw:
            return None
        denoise = footprint(self._problem, self._choice).denoise
        others = sum(
            self._problem.weights[name] for name in self._facts.component_names if name != "transformer"
        )
        return denoise.weights - others + denoise.activation, self.raw["peakGib"] * GIB


def anchors() -> tuple[Anchor, ...]:
    """All anchors, in the order of the file."""
    document = json.loads((DATA / "h200-anchors.json").read_text(encoding="utf-8"))
    return tuple(Anchor(raw) for raw in document["anchors"])
