"""What `bench` measures: every mode x layout x size that was asked for, planned once, each plan once.

Planning only; nothing runs here. Two modes that choose the same execution for a size are one candidate.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from diffusion_runtime.planning.calibrations import execution_key
from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.documents import Layout, NoPlan, Plan, Shape, Workload
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.search import make_plan

MODES = ("manual", "auto", "speed", "memory")
_SIZE = re.compile(r"(\d+)x(\d+)(?:x(\d+))?")
_DEGREE = re.compile(r"(gpus|cfg|ulysses|ring|tensor)=(\d+)")
PLANNED = "planned"


@dataclass(frozen=True)
class Candidate:
    """One plan to measure. `names`: the modes that chose it."""

    names: tuple[str, ...]
    plan: Plan

    @property
    def shape(self) -> Shape:
        """The one shape that it draws."""
        return self.plan.shapes[0]


@dataclass(frozen=True)
class Sweep:
    """Candidates in the order they were asked for, and what has no plan, in words."""

    candidates: tuple[Candidate, ...]
    without_plan: tuple[str, ...]


def sweep(
    facts: ModelFacts,
    workload: Workload,
    intent: Intent,
    node: GpuNode,
    *,
    modes: Sequence[str],
    layouts: Sequence[str],
    shapes: Sequence[Shape],
) -> Sweep:
    """Plan every combination. Raises BadRequest for what can never work."""
    chosen: dict[Any, tuple[list[str], Plan]] = {}
    refused: list[str] = []
    for shape in shapes:
        drawn = workload.model_copy(update={"shapes": (shape,)})
        for name, wanted in _intents(intent, modes, layouts):
            answer = make_plan(facts, drawn, wanted, [node])
            if isinstance(answer, NoPlan):
                refused.append(f"{size_words(shape)}, {name}: {answer.message}")
                continue
            names, _ = chosen.setdefault((execution_key(answer), shape), ([], answer))
            names.append(name)
    return Sweep(tuple(Candidate(tuple(names), plan) for names, plan in chosen.values()), tuple(refused))


def sizes_from_flag(text: str, default: Shape) -> tuple[Shape, ...]:
    """`1024x1024,832x480x81` to shapes with the family's steps. Raises BadRequest."""
    shapes = []
    for item in text.split(","):
        match = _SIZE.fullmatch(item.strip())
        if match is None:
            raise BadRequest(
                "sizes", f"--sizes: {item!r} is no size; write WIDTHxHEIGHT or WIDTHxHEIGHTxFRAMES."
            )
        width, height, frames = (int(side) if side else default.frames for side in match.groups())
        shapes.append(default.model_copy(update={"width": width, "height": height, "frames": frames}))
    return tuple(shapes)


def size_words(shape: Shape) -> str:
    """`1024x1024` or `832x480x81`."""
    return f"{shape.width}x{shape.height}" + (f"x{shape.frames}" if shape.frames > 1 else "")


def _intents(intent: Intent, modes: Sequence[str], layouts: Sequence[str]) -> Iterator[tuple[str, Intent]]:
    for layout in layouts:
        degrees = _degrees(layout)
        for mode in modes:
            name = mode if layout == PLANNED else f"{mode} {layout}"
            yield name, Intent.model_validate(intent.model_dump() | degrees | _mode(mode))


def _mode(text: str) -> dict[str, Any]:
    if text in MODES:
        return {"mode": text, "bias": None}
    try:
        bias = float(text)
    except ValueError:
        bias = -1.0
    if not 0 <= bias <= 1:
        raise BadRequest("modes", f"--modes: {text!r} is neither {', '.join(MODES)} nor a bias from 0 to 1.")
    return {"mode": "auto", "bias": bias}


def _degrees(text: str) -> dict[str, Any]:
    """`planned`, or `cfg=2+fsdp`: the GPU count is the product of the degrees unless `gpus=` says it."""
    if text == PLANNED:
        return {}
    found: dict[str, Any] = {}
    for item in text.split("+"):
        match = _DEGREE.fullmatch(item)
        if match is not None:
            found["gpus_per_replica" if match[1] == "gpus" else match[1]] = int(match[2])
        elif item == "fsdp":
            found["fsdp"] = True
        else:
            raise BadRequest(
                "layouts",
                f"--layouts: {item!r} in {text!r} is not understood; write planned, or such as cfg=2+fsdp.",
            )
    degrees = {axis: found[axis] for axis in Layout.model_fields if axis in found}
    found.setdefault("gpus_per_replica", Layout(**degrees).ranks)
    return found
