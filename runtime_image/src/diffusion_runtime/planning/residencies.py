"""Where weights may live: auto's ladder, and the placements that the speed-memory front is drawn from.

Explicit residencies always hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from diffusion_runtime.planning.documents import ResidencyMode
from diffusion_runtime.planning.facts import ComponentFacts
from diffusion_runtime.planning.problem import Problem

Placement = tuple[tuple[str, ResidencyMode], ...]
Moves = dict[str, ResidencyMode]

STREAM_STEPS = 8
"""A streamed transformer is planned with 0, 1/8 ... 7/8 of its blocks resident."""


@dataclass(frozen=True)
class Rung:
    """One step of auto's ladder: what it gives up, the placement, and whether FSDP holds the transformer."""

    title: str
    placement: Placement
    sharded: bool = False


def all_resident(problem: Problem) -> Placement:
    """Everything on the GPU except what the user put elsewhere."""
    return placed(problem, {})


def ladder(problem: Problem) -> Iterator[Rung]:
    """Auto's rungs from fastest to smallest, without repeats (explicit residencies can make rungs equal)."""
    roles = problem.names_by_role
    encoders: Moves = dict.fromkeys(roles["encoder"], "component")
    light: Moves = encoders | dict.fromkeys((*roles["vae"], *roles["other"]), "component")
    moved: Moves = light | dict.fromkeys(roles["transformer"], "component")
    streamed: Moves = light | dict.fromkeys(roles["transformer"], "layerwise")
    rungs = [
        Rung("everything resident", placed(problem, {})),
        Rung("encoders moved in for their phase", placed(problem, encoders)),
        Rung("encoders and VAE moved in for their phase", placed(problem, light)),
        Rung("the transformer sharded over all GPUs (FSDP)", placed(problem, light), sharded=True),
    ]
    if problem.intent.fsdp is not True and "component" in _common_modes(problem, roles["transformer"]):
        rungs.append(Rung("the transformer moved in for its phase", placed(problem, moved)))
        if layerwise_is_correct(problem):
            rungs.append(Rung("the transformer streamed block by block", placed(problem, streamed)))
    seen: set[tuple[Placement, bool]] = set()
    for rung in rungs:
        if (rung.placement, rung.sharded) not in seen and _valid(rung, problem):
            seen.add((rung.placement, rung.sharded))
            yield rung


def encoders_back(problem: Problem, placement: Placement) -> Placement:
    """After FSDP: components that the family marks safe return to the GPU."""
    safe = problem.facts.resident_safe_after_fsdp
    modes: Moves = {n: "resident" if n in safe else mode for n, mode in placement}
    return placed(problem, modes)


def transformer_moves(problem: Problem, sharded: bool) -> tuple[Moves, ...]:
    """Ways to hold the transformers, all of them alike unless set otherwise; shards of FSDP stay."""
    names = problem.names_by_role["transformer"]
    explicit = problem.intent.residency
    modes: tuple[ResidencyMode, ...] = ("resident",) if sharded else _common_modes(problem, names)
    found: list[Moves] = []
    for mode in modes:
        moves: Moves = {name: explicit.get(name, mode) for name in names}
        if moves not in found and not (sharded and any(m != "resident" for m in moves.values())):
            found.append(moves)
    return tuple(found)


def other_moves(problem: Problem, sharded: bool) -> tuple[Moves, ...]:
    """Ways to hold everything else: nothing moved, then more and more, by size from both ends.

    The two chains hold every subset of two components and the useful ones of more. Beside FSDP, encoders move
    unless the family marks them safe.
    """
    free: list[ComponentFacts] = []
    forced: Moves = {}
    facts, explicit = problem.facts, problem.intent.residency
    for component in facts.components:
        if component.kind == "transformer":
            continue
        safe = component.kind == "vae" or component.name in facts.resident_safe_after_fsdp
        if component.name in explicit:
            forced[component.name] = explicit[component.name]
        elif "component" not in component.correct_residencies:
            forced[component.name] = "resident"
        elif sharded and not safe:
            forced[component.name] = "component"
        else:
            free.append(component)
    free.sort(key=lambda c: (problem.weights[c.name], c.name))
    names = [component.name for component in free]
    found: list[Moves] = []
    for count in range(len(names) + 1):
        for moved in (names[len(names) - count :], names[:count]):
            moves: Moves = forced | {n: "component" if n in moved else "resident" for n in names}
            if moves not in found:
                found.append(moves)
    return tuple(found)


def stream_points(problem: Problem, placement: Placement) -> tuple[int, ...]:
    """Numbers of blocks that may stay resident beside streamed ones: eighths of the transformer's blocks."""
    streamed = [name for name, mode in placement if mode == "layerwise"]
    if not streamed:
        return (0,)
    counts = [problem.facts.component(name).block_count for name in streamed]
    blocks = min((count for count in counts if count), default=0)
    return tuple(sorted({blocks * step // STREAM_STEPS for step in range(STREAM_STEPS)}))


def layerwise_is_correct(problem: Problem) -> bool:
    """Whether every transformer of the model may be streamed block by block."""
    names = problem.names_by_role["transformer"]
    return all("layerwise" in problem.facts.component(name).correct_residencies for name in names)


def transformers_resident(problem: Problem, placement: Placement) -> bool:
    """FSDP shards only what stays on the GPU."""
    modes = dict(placement)
    return all(modes[name] == "resident" for name in problem.names_by_role["transformer"])


def placed(problem: Problem, modes: Moves) -> Placement:
    """A placement of every component in pipeline order: set, else as given, else resident."""
    explicit = problem.intent.residency
    return tuple(
        (name, explicit.get(name, modes.get(name, "resident"))) for name in problem.facts.component_names
    )


def _common_modes(problem: Problem, names: tuple[str, ...]) -> tuple[ResidencyMode, ...]:
    """Residencies that are correct for all of these components."""
    every = [problem.facts.component(name).correct_residencies for name in names]
    order: tuple[ResidencyMode, ...] = ("resident", "component", "layerwise")
    return tuple(mode for mode in order if all(mode in correct for correct in every))


def _valid(rung: Rung, problem: Problem) -> bool:
    return not rung.sharded or transformers_resident(problem, rung.placement)
