"""Which layouts a GPU count allows: explicit axes bind, unproven ones only fill an explicit count, TP never
by itself.

cfg x ulysses x ring x tensor is always the GPU count: ranks that no axis uses would only repeat each
other's work. FSDP shards over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from diffusion_runtime.planning.calibrations import layout_key
from diffusion_runtime.planning.documents import Layout
from diffusion_runtime.planning.facts import LayoutAxis
from diffusion_runtime.planning.memory_model import image_tokens
from diffusion_runtime.planning.problem import Problem

_AXES: tuple[LayoutAxis, ...] = ("cfg", "ulysses", "ring", "tensor")


@dataclass(frozen=True)
class LayoutOption:
    """A layout that may be used, and what in it is not proven for the family (so the plan warns)."""

    layout: Layout
    unproven: tuple[LayoutAxis, ...] = ()

    @cached_property
    def key(self) -> tuple[int, ...]:
        """The layout's degrees, for comparing."""
        return layout_key(self.layout)

    @cached_property
    def ranks(self) -> int:
        """GPUs."""
        return self.layout.ranks


def plain_options(problem: Problem, gpus: int) -> tuple[LayoutOption, ...]:
    """Layouts without FSDP that use exactly `gpus` ranks: proven ones, else correct ones for an explicit
    count.
    """
    if gpus > 1 and (problem.device.mig or problem.device.shared):
        return ()
    facts = problem.facts
    proven = tuple(_factorisations(problem, gpus, problem.proven_axes))
    if not proven and problem.intent.gpus_per_replica == gpus:
        proven = tuple(_factorisations(problem, gpus, facts.correct_axes))
    return tuple(_option(problem, layout) for layout in proven)


def sharded_options(problem: Problem, gpus: int) -> tuple[LayoutOption, ...]:
    """The same layouts with FSDP over all ranks, where the user asks for it or it is proven and not
    refused.
    """
    wanted = problem.intent.fsdp
    facts = problem.facts
    if gpus < 2 or wanted is False or "fsdp" not in facts.correct_axes:
        return ()
    if wanted is None and "fsdp" not in problem.proven_axes:
        return ()
    unit = problem.intent.fsdp_blocks_per_unit or 1
    return tuple(
        _option(problem, option.layout.model_copy(update={"fsdp": True, "fsdp_blocks_per_unit": unit}))
        for option in plain_options(problem, gpus)
        if option.layout.tensor == 1
    )


def fillable_counts(problem: Problem, counts: Iterable[int]) -> tuple[int, ...]:
    """Those GPU counts that some correct layout fills under the user's explicit axes."""
    axes = problem.facts.correct_axes
    return tuple(n for n in counts if next(_factorisations(problem, n, axes), None) is not None)


def explicit_axes(problem: Problem) -> dict[str, int]:
    """Axes that the user set, `--enable-cfg-parallel` included."""
    intent = problem.intent
    axes: dict[str, int] = {
        axis: getattr(intent, axis) for axis in _AXES if getattr(intent, axis) is not None
    }
    if intent.cfg_parallel is not None and "cfg" not in axes:
        axes["cfg"] = 2 if intent.cfg_parallel else 1
    return axes


def _factorisations(problem: Problem, gpus: int, axes: tuple[LayoutAxis, ...]) -> Iterator[Layout]:
    """Layouts of `gpus` ranks out of `axes` and the user's explicit ones, which all keep their degree."""
    explicit = explicit_axes(problem)
    if not _encoders_divide(problem, gpus):
        return
    for cfg in _degrees(problem, explicit, "cfg", gpus, axes):
        for tensor in _degrees(problem, explicit, "tensor", gpus // cfg, axes):
            rest = gpus // (cfg * tensor)
            for ulysses in _degrees(problem, explicit, "ulysses", rest, axes):
                ring = rest // ulysses
                allowed = ring == explicit["ring"] if "ring" in explicit else ring == 1 or "ring" in axes
                allowed = allowed and 1 in (ulysses, ring)  # diffusers splits a prompt evenly or by one way
                if allowed and _tokens_divide(problem, ulysses * ring):
                    yield Layout(cfg=cfg, ulysses=ulysses, ring=ring, tensor=tensor)


def _degrees(
    problem: Problem, explicit: dict[str, int], axis: LayoutAxis, most: int, axes: tuple[LayoutAxis, ...]
) -> tuple[int, ...]:
    """Degrees of one axis that divide `most`, are allowed, and agree with the user."""
    if axis in explicit:
        return (explicit[axis],) if most % explicit[axis] == 0 else ()
    if axis not in axes or axis == "tensor" or most == 1:
        return (1,)
    if axis == "cfg":
        return (2, 1) if problem.guided and most % 2 == 0 and not _policy_without_cfg(problem) else (1,)
    heads = problem.facts.denoise.heads
    return tuple(d for d in range(1, most + 1) if most % d == 0 and heads % d == 0)


def _policy_without_cfg(problem: Problem) -> bool:
    """The user chose how to split the work; then CFG parallelism is not added, except to fill an explicit
    count.
    """
    return problem.intent.sets_parallel_policy and problem.intent.gpus_per_replica is None


def _encoders_divide(problem: Problem, ranks: int) -> bool:
    """Sliced text encoders need two ranks and a part of the heads for each."""
    if not problem.intent.text_encoder_tensor:
        return True
    return ranks > 1 and not any(part.slices % ranks for part in problem.facts.components)


def _tokens_divide(problem: Problem, ranks: int) -> bool:
    return all(image_tokens(problem, shape) % ranks == 0 for shape in problem.shapes)


def _option(problem: Problem, layout: Layout) -> LayoutOption:
    if problem.intent.text_encoder_tensor:
        layout = layout.model_copy(update={"text_encoder_tensor": True})
    used: list[LayoutAxis] = [axis for axis in _AXES if getattr(layout, axis) > 1]
    if layout.fsdp:
        used.append("fsdp")
    return LayoutOption(layout, tuple(axis for axis in used if axis not in problem.proven_axes))
