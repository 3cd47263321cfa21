"""The cases of parity: every layout of 1, 2 and 4 ranks and every residency that a family claims.

Tolerances, on latents whose standard deviation is about 1: 5e-5 in float32 (parts are summed in another
order, and copies of weights are aligned differently in memory, which picks other kernels). bfloat16 may be no
further from plain float32 than twice what plain bfloat16 is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from builders.parity_ranks import Case
from diffusion_runtime.loading.folder import open_folder
from diffusion_runtime.models.catalog import claims_of_folder
from diffusion_runtime.planning.documents import CompileSettings, DtypeName, Execution, Layout, Residency
from diffusion_runtime.planning.facts import LayoutAxis, ModelFacts

FLOAT32_TOLERANCE, BFLOAT16_FACTOR = 5e-5, 2.0
AXES: tuple[LayoutAxis, ...] = ("cfg", "ulysses", "ring", "tensor")
MOST_RANKS = 4
PLACEMENTS = ("resident", "component", "encoders", "layerwise")
"""All resident; all moved; only encoders moved; transformers streamed and the rest moved."""


@dataclass(frozen=True)
class Kind:
    """What a case varies."""

    layout: Layout
    placement: str
    dtype: DtypeName = "float32"
    compiled: bool = False

    @property
    def name(self) -> str:
        """Such as `cfg 2 x ulysses 2 + fsdp, component, bfloat16`."""
        split = " x ".join(f"{axis} {n}" for axis in AXES if (n := getattr(self.layout, axis)) > 1)
        split = (split or "one rank") + " + fsdp" * self.layout.fsdp
        words = [split + " + text encoder" * self.layout.text_encoder_tensor, self.placement, self.dtype]
        return ", ".join(words + ["compiled"] * self.compiled)

    @property
    def covers(self) -> tuple[str, ...]:
        """Axes and residencies that this case is evidence for."""
        axes = [axis for axis in AXES if getattr(self.layout, axis) > 1] + ["fsdp"] * self.layout.fsdp
        axes += ["textEncoderTensor"] * self.layout.text_encoder_tensor
        modes = {"encoders": ["component"], "layerwise": ["component", "layerwise"]}
        return (*axes, *modes.get(self.placement, [self.placement]))


def every_kind(facts: ModelFacts) -> Iterator[Kind]:
    """Every layout x residency in float32; bfloat16 and compiled once per layout and once per residency."""
    for layout in layouts(facts.correct_axes):
        for placement in placements(facts, layout):
            yield Kind(layout, placement)
        for dtype, compiled in VARIANTS:
            if not (compiled and layout.tensor > 1):  # refused: sliced matrices cannot be compiled
                yield Kind(layout, "resident", dtype, compiled)
    yield from sliced_encoder_kinds(facts)
    one = Layout()
    for placement, (dtype, compiled) in product(placements(facts, one), VARIANTS):
        if placement != "resident":
            yield Kind(one, placement, dtype, compiled)


def sibling_kinds(facts: ModelFacts) -> Iterator[Kind]:
    """Of another pipeline of the same classes: every layout, and on one rank every residency; compiled on
    one rank and with a branch of guidance on each of two.
    """
    for layout in layouts(facts.correct_axes):
        for placement in placements(facts, layout) if layout.ranks == 1 else ("resident",):
            yield Kind(layout, placement)
        if layout in (Layout(), Layout(cfg=2)):  # gloo cannot gather the odd tokens of an edit's warm-up
            yield Kind(layout, "resident", compiled=True)


VARIANTS: tuple[tuple[DtypeName, bool], ...] = (("bfloat16", False), ("float32", True))


def few_kinds(facts: ModelFacts, turn: int) -> Iterator[Kind]:
    """Every axis on two ranks, sliced text encoders that move, and one layout of four. `turn` shifts
    placements, dtypes and what is sharded, so that families together cover the pairs.
    """
    every = list(layouts(facts.correct_axes))
    two = [layout for layout in every if layout.ranks == 2]
    four = [layout for layout in every if layout.ranks == MOST_RANKS]
    sharded = [layout for layout in two if layout.fsdp]
    chosen = [layout for layout in two if not layout.fsdp] + sharded[turn % len(sharded) :][:1]
    for index, layout in enumerate(chosen):
        offered = placements(facts, layout)
        moving = [name for name in ("layerwise", "component", "encoders") if name in offered]
        dtype: DtypeName = "bfloat16" if (index + turn) % 3 == 2 else "float32"
        yield Kind(layout, moving[(index + turn // 2) % min(2, len(moving))], dtype)
    yield from list(sliced_encoder_kinds(facts))[1:2]
    if four:
        yield Kind(four[turn * 5 % len(four)], "resident")


def sliced_encoder_kinds(facts: ModelFacts) -> Iterator[Kind]:
    """Text encoders sliced over the ranks of every layout that they can be sliced by; bfloat16 and moved
    once per rank count.
    """
    slices = [part.slices for part in facts.components if part.slices]
    done = set()
    for layout in layouts(facts.correct_axes):
        if not slices or layout.ranks == 1 or any(each % layout.ranks for each in slices):
            continue
        sliced = layout.model_copy(update={"text_encoder_tensor": True})
        yield Kind(sliced, "resident")
        if layout.ranks not in done:
            done.add(layout.ranks)
            yield Kind(sliced, "encoders")
            yield Kind(sliced, "resident", "bfloat16")


def layouts(axes: Iterable[LayoutAxis]) -> Iterator[Layout]:
    """Of 1, 2 and 4 ranks out of `axes`, each also sharded where that is allowed."""
    allowed = set(axes)
    for degrees in product((1, 2), (1, 2, 4), (1, 2, 4), (1, 2, 4)):
        layout = Layout(**dict(zip(AXES, degrees, strict=True)))
        used = {axis for axis in AXES if getattr(layout, axis) > 1}
        if layout.ranks > MOST_RANKS or not used <= allowed or {"ulysses", "ring"} <= used:
            continue
        yield layout
        if "fsdp" in allowed and layout.ranks > 1 and layout.tensor == 1:
            yield layout.model_copy(update={"fsdp": True, "fsdp_blocks_per_unit": layout.ranks // 2})


def placements(facts: ModelFacts, layout: Layout) -> tuple[str, ...]:
    """Those of PLACEMENTS that a layout allows: shards and slices of a transformer stay where they are."""
    if layout.fsdp or layout.tensor > 1:
        return ("resident", "encoders")
    streamed = all(
        "layerwise" in component.correct_residencies
        for component in facts.components
        if component.kind == "transformer"
    )
    return PLACEMENTS if streamed else PLACEMENTS[:-1]


def claims(folder: Path) -> ModelFacts:
    """What the family file claims, whatever parity runs have said."""
    return claims_of_folder(folder)


def case(pipeline: str, folder: Path, kind: Kind) -> Case:
    """The case that draws `pipeline`, written in `folder`, in this way."""
    kinds = open_folder(folder).kinds
    residency = {name: _residency(kind.placement, component) for name, component in kinds.items()}
    execution = Execution(
        gpus_per_replica=kind.layout.ranks,
        device="cpu",
        layout=kind.layout,
        residency=residency,
        dtype=dict.fromkeys(kinds, kind.dtype),
        compile=CompileSettings(enabled=kind.compiled),
    )
    return Case(name=f"{pipeline}: {kind.name}", pipeline=pipeline, folder=str(folder), execution=execution)


def _residency(placement: str, component: str) -> Residency:
    if placement == "layerwise" and component == "transformer":
        return Residency(mode="layerwise", prefetch_blocks=1, resident_blocks=1)
    encoder = component in ("textEncoder", "imageEncoder")
    moved = placement in ("component", "layerwise") or (placement == "encoders" and encoder)
    return Residency(mode="component" if moved else "resident")
