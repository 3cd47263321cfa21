"""Outputs in the documents: `python -m builders.doc_outputs` (with tests/ on the path) writes them anew.

A comment `<!-- output: COMMAND -->` or `<!-- table: families -->` stands before each block. A test compares
the blocks with what the code says now, so that the documents never show an older planner.
"""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from diffusion_runtime.cli import main
from diffusion_runtime.models.catalog import facts_for, known_models
from diffusion_runtime.planning.facts import LayoutAxis, ModelFacts

DOCS = Path(__file__).parents[2] / "docs"
PAGES = (DOCS / "concepts" / "how-it-decides.md", DOCS / "reference" / "families.md")
_BLOCK = re.compile(r"(<!-- (output|table): (.+?) -->\n)(?:```text\n.*?```\n|\|.*?\n(?=\n|\Z))", re.DOTALL)
AXES: tuple[LayoutAxis, ...] = ("cfg", "ulysses", "ring", "tensor", "fsdp")


def renewed(text: str) -> str:
    """The page with every block as the code says now."""
    return _BLOCK.sub(lambda match: match.group(1) + _block(match.group(2), match.group(3)), text)


def _block(kind: str, what: str) -> str:
    return f"```text\n{output_of(what)}```\n" if kind == "output" else TABLES[what]()


def output_of(command: str) -> str:
    """What a `diffusion-runtime` command prints."""
    program, *arguments = shlex.split(command)
    assert program == "diffusion-runtime"
    text = io.StringIO()
    with redirect_stdout(text):
        main(arguments)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n"


def families_table() -> str:
    """Families x layouts and residencies, from the family files."""
    head = ["model", "family", *AXES, "transformer may be", "encoders may be", "guided by default"]
    rows = [_row(facts_for(model)) for model in known_models()]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def sources_table() -> str:
    """What the family files give as their sources, and what is not checked."""
    models: dict[tuple[str, str, str], list[str]] = {}
    for model in known_models():
        facts = facts_for(model)
        key = (facts.model.family, "; ".join(facts.sources) or "-", ", ".join(facts.unchecked) or "-")
        models.setdefault(key, []).append(model)
    rows = [[family, ", ".join(names), sources, rest] for (family, sources, rest), names in models.items()]
    head = ["family", "models", "sources", "totals not checked against a class"]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, ["---"] * len(head), *rows))


def _row(facts: ModelFacts) -> list[str]:
    axes = [
        "proven" if a in facts.proven_axes else "correct" if a in facts.correct_axes else "-" for a in AXES
    ]
    modes = {c.kind: c.correct_residencies for c in facts.components}
    transformer = ", ".join(m for m in modes["transformer"] if m != "resident")
    encoder = ", ".join(m for m in modes.get("textEncoder", ()) if m != "resident")
    guided = "yes" if facts.guided_by_default else "no"
    return [facts.model.name, facts.model.family, *axes, transformer, encoder, guided]


TABLES: dict[str, Callable[[], str]] = {"families": families_table, "sources": sources_table}


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(renewed(page.read_text(encoding="utf-8")), encoding="utf-8")
