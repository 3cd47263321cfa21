"""Where weights may live: every allowed combination, and auto's ladder of them. Explicit residencies
always hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from diffusion_runtime.planning.documents import ResidencyMode
from diffusion_runtime.planning.problem import Problem

Placement = tuple[tuple[str, ResidencyMode], ...]


@dataclass(frozen=True)
class Rung:
    """One step of auto's ladder: what it gives up, the placement, and whether FSDP holds the transformer."""

    title: str
    placement: Placement
    sharded: bool = False


def all_resident(problem: Problem) -> Placement:
    """Everything on the GPU except what the user put elsewhere."""
    return _placed(problem, {})


def ladder(problem: Problem) -> Iterator[Rung]:
    """Auto's rungs from fastest to smallest, without repeats (explicit residencies can make rungs equal)."""
    roles = problem.names_by_role
    encoders: dict[str, ResidencyMode] = dict.fromkeys(roles["encoder"], "component")
    light: dict[str, ResidencyMode] = encoders | dict.fromkeys((*roles["vae"], *roles["other"]), "component")
    moved: dict[str, ResidencyMode] = light | dict.fromkeys(roles["transformer"], "component")
    streamed: dict[str, ResidencyMode] = light | dict.fromkeys(roles["transformer"], "layerwise")
    rungs = [
        Rung("everything resident", _placed(problem, {})),
        Rung("encoders moved in for their phase", _placed(problem, encoders)),
        Rung("encoders and VAE moved in for their phase", _placed(problem, light)),
        Rung("the transformer sharded over all GPUs (FSDP)", _placed(problem, light), sharded=True),
    ]
    if problem.intent.fsdp is not True:
        rungs.append(Rung("the transformer moved in for its phase", _placed(problem, moved)))
        if layerwise_is_correct(problem):
            rungs.append(Rung("the transformer streamed block by block", _placed(problem, streamed)))
    seen: set[tuple[Placement, bool]] = set()
    for rung in rungs:
        if (rung.placement, rung.sharded) not in seen and _valid(rung, problem):
            seen.add((rung.placement, rung.sharded))
            yield rung


def encoders_back(problem: Problem, placement: Placement) -> Placement:
    """After FSDP: components that the family marks safe return to the GPU."""
    safe = problem.facts.resident_safe_after_fsdp
    modes: dict[str, ResidencyMode] = {n: "resident" if n in safe else mode for n, mode in placement}
    return _placed(problem, modes)


def combinations(problem: Problem, sharded: bool) -> Iterator[Placement]:
    """Every allowed placement; under FSDP shards stay, and only encoders that the family marks safe stay
    with them.
    """
    options: list[tuple[ResidencyMode, ...]] = []
    explicit, facts = problem.intent.residency, problem.facts
    for component in problem.facts.components:
        if component.name in explicit:
            options.append((explicit[component.name],))
        elif component.kind == "transformer" and sharded:
            options.append(("resident",))
        elif component.kind == "transformer":
            options.append(component.correct_residencies)
        elif sharded and component.kind != "vae" and component.name not in facts.resident_safe_after_fsdp:
            options.append(("component",))
        else:
            options.append(tuple(m for m in component.correct_residencies if m != "layerwise"))
    names = problem.facts.component_names
    for modes in product(*options):
        placement = tuple(zip(names, modes, strict=True))
        if not sharded or transformers_resident(problem, placement):
            yield placement


def layerwise_is_correct(problem: Problem) -> bool:
    """Whether every transformer of the model may be streamed block by block."""
    names = problem.names_by_role["transformer"]
    return all("layerwise" in problem.facts.component(name).correct_residencies for name in names)


def transformers_resident(problem: Problem, placement: Placement) -> bool:
    """FSDP shards only what stays on the GPU."""
    modes = dict(placement)
    return all(modes[name] == "resident" for name in problem.names_by_role["transformer"])


def _valid(rung: Rung, problem: Problem) -> bool:
    return not rung.sharded or transformers_resident(problem, rung.placement)


def _placed(problem: Problem, modes: dict[str, ResidencyMode]) -> Placement:
    explicit = problem.intent.residency
    return tuple(
        (name, explicit.get(name, modes.get(name, "resident"))) for name in problem.facts.component_names
    )
