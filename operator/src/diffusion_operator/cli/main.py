"""The command line of `kubectl diffusion`: reads the flags, runs one command, turns errors into exit codes.

Exit codes: 0 answered, 1 the cluster or the object could not be read, 2 bad input, 3 nothing fits.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from diffusion_operator.cli.capacity import capacity
from diffusion_operator.cli.errors import OK, CommandError
from diffusion_operator.cli.explain import explain
from diffusion_operator.cli.history import history
from diffusion_operator.cli.kubectl import Kubectl
from diffusion_operator.cli.plan import plan
from diffusion_operator.cli.promises import promises
from diffusion_operator.cli.style import Style, style_for
from diffusion_operator.inventory.objects import DEFAULT_RESOURCE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. argparse itself ends with 2 on wrong flags."""
    flags = _parser().parse_args(arguments)
    kubectl = Kubectl(context=flags.context, kubeconfig=flags.kubeconfig)
    style = style_for(sys.stdout)
    try:
        text, code = _answer(flags, kubectl, style)
    except CommandError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    sys.stdout.write(text)
    return code


def _answer(flags: argparse.Namespace, kubectl: Kubectl, style: Style) -> tuple[str, int]:
    """What the command prints, and its exit code. Raises CommandError."""
    if flags.command == "capacity":
        return capacity(kubectl, flags.resource, style), OK
    if flags.command == "promises":
        return promises(kubectl, flags.namespace, flags.output, style), OK
    if flags.command == "explain":
        return explain(kubectl, flags.name, flags.namespace, style), OK
    if flags.command == "history":
        return history(kubectl, flags.name, flags.namespace, flags.output, style), OK
    return plan(kubectl, flags.filename, flags.nodes, flags.namespace, flags.output, style)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kubectl diffusion",
        description="What the diffusion operator decided and why, or what it would decide. Writes nothing.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "-n", "--namespace", help="namespace; default: the current context's, and all of them for promises"
    )
    shared.add_argument("--context", help="kubeconfig context; default: the current one")
    shared.add_argument("--kubeconfig", help="kubeconfig file; default: kubectl's own")

    def command(name: str, text: str, *, for_programs: bool = False) -> argparse.ArgumentParser:
        added = commands.add_parser(name, parents=[shared], help=text)
        if for_programs:
            added.add_argument("-o", "--output", choices=("text", "json"), default="text")
        return added

    explained = command("explain", "what was decided for one DiffusionDeployment, and why")
    past = command(
        "history", "which plans one DiffusionDeployment had, and why each ended", for_programs=True
    )
    for named in (explained, past):
        named.add_argument("name", help="name of the DiffusionDeployment")
    command(
        "promises", "GPUs promised to every DiffusionDeployment, beside what nodes have", for_programs=True
    )
    counted = command("capacity", "nodes with GPUs: what is free, and who has the rest")
    counted.add_argument(
        "--resource", default=DEFAULT_RESOURCE, help=f"the GPU resource; default: {DEFAULT_RESOURCE}"
    )
    _add_plan_flags(
        command("plan", "what the operator would do with a manifest, without applying it", for_programs=True)
    )
    return parser


def _add_plan_flags(plan_command: argparse.ArgumentParser) -> None:
    plan_command.add_argument(
        "-f", "--filename", required=True, help="manifest of a DiffusionDeployment; - is stdin"
    )
    plan_command.add_argument(
        "--nodes",
        type=Path,
        help="file with nodes and pods, from `kubectl get nodes,pods -A -o yaml`; default: the live cluster",
    )


if __name__ == "__main__":
    sys.exit(main())
