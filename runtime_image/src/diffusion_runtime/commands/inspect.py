"""`diffusion-runtime inspect`: what a model consists of, counted from headers or built-in facts, never
from weights. A model on a hub or in a store is read by range requests: configs and headers only.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from diffusion_runtime.commands.fetch import (
    MESSAGE_CHARACTERS,
    TERMINATION_LOG,
    add_revision_flags,
    write_termination,
)
from diffusion_runtime.commands.planning_flags import add_model_flag, facts_from_flag, sentence
from diffusion_runtime.models.catalog import known_models
from diffusion_runtime.planning.errors import BadModelFolder, BadRequest
from diffusion_runtime.planning.explain import format_bytes, shape_summary
from diffusion_runtime.planning.facts import ModelFacts

COMPACT_BYTES = 4096
"""What a container can say when it ends."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `inspect`."""
    add_model_flag(parser)
    add_revision_flags(parser)
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument(
        "--compact", action="store_true", help=f"JSON without defaults, at most {COMPACT_BYTES} bytes"
    )
    parser.add_argument(
        "--termination-log",
        type=Path,
        default=TERMINATION_LOG,
        metavar="PATH",
        help="with --compact, where the answer goes too, or why there is none",
    )


def run(args: argparse.Namespace) -> int:
    """Print the facts; 0 done, 1 another try may help, 2 bad input."""
    from diffusion_runtime.loading.remote.source import FetchFailed

    try:
        facts = _facts(args)
        text = compact(facts) if args.compact else ""
    except FetchFailed as error:
        return _fail(args, 1, error.reason, error.message)
    except ValueError as error:
        reason = "InvalidSpec" if isinstance(error, BadRequest | BadModelFolder) else "UnknownModel"
        return _fail(args, 2, reason, sentence(error))
    if args.compact:
        print(text)
        write_termination(args.termination_log, text)
    elif args.output == "json":
        print(json.dumps(facts.to_dict(), indent=2, sort_keys=True, ensure_ascii=False))
    else:
        print(_table(facts), end="")
    return 0


def compact(facts: ModelFacts) -> str:
    """The facts as JSON without what is default; ModelFacts reads it back unchanged.

    Raises BadRequest when a model has so many parts that it takes more than `COMPACT_BYTES`.
    """
    document = facts.model_dump(by_alias=True, mode="json", exclude_defaults=True)
    document["schema"] = facts.schema_version
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    size = len(text.encode())
    if size > COMPACT_BYTES:
        raise BadRequest(
            "compact", f"The facts of {facts.model.name} take {size} bytes, over {COMPACT_BYTES}."
        )
    return text


def _facts(args: argparse.Namespace) -> ModelFacts:
    """Built-in facts need no network; a revision, or a model that is not built in, is looked at."""
    from diffusion_runtime.loading.remote.places import is_remote, source_of
    from diffusion_runtime.loading.remote.skeleton import remote_facts

    named = args.revision is not None or args.variant is not None
    if is_remote(args.model_path) and (named or args.model_path not in known_models()):
        return remote_facts(source_of(args.model_path, args.revision), args.variant)[0]
    if named:
        raise BadRequest("revision", "--revision and --variant are for models on a hub or in a store.")
    return facts_from_flag(args.model_path)


def _fail(args: argparse.Namespace, code: int, reason: str, message: str) -> int:
    print(f"diffusion-runtime inspect: {message}", file=sys.stderr)
    if args.compact:
        answer = {"reason": reason, "phase": "inspect", "message": message[:MESSAGE_CHARACTERS]}
        write_termination(args.termination_log, json.dumps(answer, ensure_ascii=False))
    return code


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
