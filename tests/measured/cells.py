"""The cells of tests/data/h200-cells.json, each with what the planner predicts for it.

A cell is one phase alone on one H200 with random weights at full size (2026-11-23, torch 2.11). Every
parameter was in bfloat16 there, modules that the engine keeps in float32 included, so the facts are cast so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.devices import device_from_product
from diffusion_runtime.planning.documents import DtypeName, Layout, ResidencyMode, Shape
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.memory_model import (
    CONTEXT_BYTES,
    LIBRARY_BYTES,
    decode_bytes,
    denoise_bytes,
    text_bytes,
)
from diffusion_runtime.planning.problem import Choice, Problem
from diffusion_runtime.planning.time_model import decode_seconds, encode_seconds, forward_seconds

DATA = Path(__file__).parents[1] / "data"
FITTED_SHAPES = {(512, 512, 1), (1024, 1024, 1), (832, 480, 81)}
LONG_PROMPT = 1024
MODEL_IDS = {
    "Qwen-Image": "Qwen/Qwen-Image",
    "Wan2.1": "Wan-AI/Wan2.1-T2V-14B-Diffusers",
    "FLUX.1-dev/Z-Image": "black-forest-labs/FLUX.1-dev",
    "FLUX.1-dev": "black-forest-labs/FLUX.1-dev",
    "Z-Image": "Tongyi-MAI/Z-Image",
    "Wan2.1-T2V-1.3B": "Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    "Wan2.1-T2V-14B": "Wan-AI/Wan2.1-T2V-14B-Diffusers",
    "Wan2.1-I2V-14B-480P": "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
}
REFITTED = (("FLUX.1-dev/Z-Image", "decode"), ("Z-Image", "denoise"))
"""Their gaps are fitted on whole requests of docs/results/gpu-rows."""
COMPONENTS = {"decode": "vae", "denoise": "transformer", "text": "text_encoder"}


@dataclass(frozen=True)
class Cell:
    """One measurement and its prediction. Bytes above the weights, driver-visible total, seconds."""

    raw: dict[str, Any]

    @property
    def phase(self) -> str:
        """decode, denoise or text."""
        return str(self.raw["phase"])

    @property
    def compiled(self) -> bool:
        """Whether blocks were compiled."""
        return bool(self.raw.get("compiled", False))

    @property
    def before_expansion(self) -> bool:
        """Whether its gaps are those of segments that could not expand, while the planner's are refitted."""
        return (self.raw["model"], self.phase) in REFITTED and not self.tiled

    @property
    def tiled(self) -> bool:
        """Whether the VAE decoded in the class's own tiles."""
        return bool(self.raw.get("tiling", False))

    @property
    def name(self) -> str:
        """Model, phase, shape and variant in words."""
        shape = self.raw["shape"]
        size = f" {shape['width']}x{shape['height']}" if "width" in shape else ""
        frames = f"x{shape['frames']}" if "frames" in shape else ""
        text = f", {shape['textTokens']} text tokens" if "textTokens" in shape else ""
        batch = f", batch {shape['batch']}" if shape.get("batch", 1) > 1 else ""
        variant = ", compiled" if self.compiled else ", tiled" if self.tiled else ""
        return f"{self.raw['model']} {self.phase}{size}{frames}{text}{batch}{variant}"

    @property
    def held_out(self) -> bool:
        """Whether no coefficient was fitted on this cell."""
        shape = self.raw["shape"]
        size = (shape.get("width"), shape.get("height"), shape.get("frames", 1))
        special = shape.get("batch", 1) > 1 or shape.get("textTokens") == LONG_PROMPT
        return self.phase == "text" or special or "I2V" in self.raw["model"] or size not in FITTED_SHAPES

    @cached_property
    def facts(self) -> ModelFacts:
        """The model's facts as it was measured: cast whole, this prompt's length, this batch."""
        facts = facts_for(MODEL_IDS[self.raw["model"]])
        cast = tuple(
            c.model_copy(
                update={
                    "float32_elements": 0,
                    "blocks": tuple(b.model_copy(update={"float32_elements": 0}) for b in c.blocks),
                }
            )
            for c in facts.components
        )
        tokens = self.raw["shape"].get("textTokens", facts.denoise.text_tokens)
        denoise = facts.denoise.model_copy(update={"text_tokens": tokens, "guidance_in_one_batch": True})
        text = facts.text.model_copy(
            update={
                "tokens": tokens,
                "gap_bytes": facts.text.gap_bytes * tokens / facts.text.tokens,
                "flops": facts.text.flops * tokens / facts.text.tokens,
            }
        )
        return facts.model_copy(update={"components": cast, "denoise": denoise, "text": text})

    @cached_property
    def problem(self) -> Problem:
        """The planning question that this cell answers."""
        shape = self.raw["shape"]
        size = Shape(
            width=shape.get("width", 1024),
            height=shape.get("height", 1024),
            frames=shape.get("frames", 1),
            steps=1,
        )
        dtype = sixteen_bit(self.facts)
        guided = shape.get("batch", 1) == 2
        return Problem(self.facts, (size,), guided, Intent(), dtype, device_from_product("H200"))

    @cached_property
    def choice(self) -> Choice:
        """One GPU, everything resident."""
        tile = self.facts.decode.tile_size if self.tiled else None
        return one_gpu(self.facts, compiled=self.compiled, tile=tile)

    @property
    def weights(self) -> tuple[int, int]:
        """Predicted and measured weight bytes."""
        component = self.facts.component(COMPONENTS[self.phase])
        return component.bytes("bfloat16"), int(self.raw["weightsBytes"])

    @cached_property
    def _predicted(self) -> tuple[int, int]:
        if self.phase == "decode":
            return decode_bytes(self.problem, self.choice)
        if self.phase == "denoise":
            return denoise_bytes(self.problem, self.choice)
        return text_bytes(self.problem)

    @property
    def allocated(self) -> tuple[int, int]:
        """Predicted and measured peak allocated above the weights."""
        return self._predicted[0], self.raw["peakAllocatedBytes"] - self.raw["weightsBytes"]

    @property
    def reserved(self) -> tuple[int, int]:
        """Predicted and measured peak reserved above the weights."""
        return sum(self._predicted), self.raw["peakReservedBytes"] - self.raw["weightsBytes"]

    @property
    def driver(self) -> tuple[int, int]:
        """Predicted and measured total that the driver shows; decoding alone loads no matmul library."""
        context = CONTEXT_BYTES + (0 if self.phase == "decode" else LIBRARY_BYTES)
        return context + self.weights[0] + sum(self._predicted), int(self.raw["deviceUsedBytes"])

    @property
    def seconds(self) -> tuple[float, float]:
        """Predicted and measured seconds of the phase."""
        measured = self.raw["ms"] / 1000
        if self.phase == "decode":
            return decode_seconds(self.problem, self.choice, self.problem.shapes[0]), measured
        if self.phase == "denoise":
            return forward_seconds(self.problem, self.choice, self.problem.shapes[0]), measured
        return encode_seconds(self.problem), measured


def sixteen_bit(facts: ModelFacts) -> dict[str, DtypeName]:
    """Every component in bfloat16, as it was measured."""
    dtype: DtypeName = "bfloat16"
    return dict.fromkeys(facts.component_names, dtype)


def one_gpu(facts: ModelFacts, *, compiled: bool = False, tile: int | None = None, **layout: Any) -> Choice:
    """A choice with everything resident; `layout` degrees make it more than one GPU."""
    chosen = Layout(**layout)
    mode: ResidencyMode = "resident"
    placement = tuple((name, mode) for name in facts.component_names)
    return Choice(chosen.ranks, chosen, placement, tile, compiled)


def cells() -> tuple[Cell, ...]:
    """All cells, in the order of the file."""
    document = json.loads((DATA / "h200-cells.json").read_text(encoding="utf-8"))
    return tuple(Cell(raw) for raw in document["cells"])
