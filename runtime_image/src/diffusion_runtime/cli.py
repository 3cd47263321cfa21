"""`diffusion-runtime`: hands each sub-command to its module, imported only when it is asked for.

So `plan` and `inspect` start without torch. Exit codes: 0 done, 2 bad input, 3 nothing fits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

COMMANDS = {
    "plan": "say how a model would be placed on given GPUs, and why",
    "inspect": "count a model's components and blocks without loading weights",
    "fetch": "bring a model into a folder, pinned, resumable and hash-checked",
    "generate": "draw without a server, following a plan",
    "serve": "serve a plan over HTTP",
    "bench": "measure modes, layouts and sizes on this machine",
}


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser; only the named command gets its arguments (and its module imported)."""
    parser = argparse.ArgumentParser(prog="diffusion-runtime", description="Plans and runs diffusion models.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == command:
            import_module(f"diffusion_runtime.commands.{name}").add_arguments(sub)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments[0] if arguments and arguments[0] in COMMANDS else None
    args = build_parser(command).parse_args(arguments)
    module = import_module(f"diffusion_runtime.commands.{args.command}")
    return int(module.run(args))


if __name__ == "__main__":
    sys.exit(main())
