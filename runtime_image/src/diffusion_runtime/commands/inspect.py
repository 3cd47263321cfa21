"""`diffusion-runtime inspect`: what a model consists of, counted from headers or built-in facts, never
from weights.
"""

from __future__ import annotations

import argparse
import json
import sys

from diffusion_runtime.commands.planning_flags import add_model_flag, facts_from_flag, sentence
from diffusion_runtime.planning.explain import format_bytes, shape_summary
from diffusion_runtime.planning.facts import ModelFacts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `inspect`."""
    add_model_flag(parser)
    parser.add_argument("--output", choices=("table", "json"), default="table")


def run(args: argparse.Namespace) -> int:
    """Print the facts; 0 done, 2 bad input."""
    try:
        facts = facts_from_flag(args.model_path)
    except ValueError as error:
        print(f"diffusion-runtime inspect: {sentence(error)}", file=sys.stderr)
        return 2
    if args.output == "json":
        print(json.dumps(facts.to_dict(), indent=2, sort_keys=True, ensure_ascii=False))
    else:
        print(_table(facts), end="")
    return 0


def _table(facts: ModelFacts) -> str:
    lines = [
        f"{facts.model.name}  ({facts.model.family}, {facts.model.source})",
        f"default shape {shape_summary(facts.default_shape)}; guidance "
        f"{'on' if facts.guided_by_default else 'off'}",
        f"layouts correct: {', '.join(facts.correct_axes)}; chosen without asking: "
        f"{', '.join(facts.proven_axes)}",
        "",
        f"{'component':<16}{'elements':>16}{'planned':>11}{'on disk':>11}  blocks",
    ]
    for component in facts.components:
        stored = "-" if component.stored_bytes is None else format_bytes(component.stored_bytes)
        blocks = ", ".join(f"{g.count} x {g.elements:,} in {g.path}" for g in component.blocks) or "-"
        lines.append(
            f"{component.name:<16}{component.elements:>16,}{format_bytes(component.bytes(component.default_dtype)):>11}"
            f"{stored:>11}  {blocks}"
        )
    total = sum(c.bytes(c.default_dtype) for c in facts.components)
    lines.append(f"{'total':<16}{sum(c.elements for c in facts.components):>16,}{format_bytes(total):>11}")
    return "\n".join(lines) + "\n"
