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
from diffusion_operator.cli.kubectl import Kubectl
from diffusion_operator.cli.plan import plan
from diffusion_operator.cli.style import style_for
from diffusion_operator.placement.wish import DEFAULT_RESOURCE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. argparse itself ends with 2 on wrong flags."""
    flags = _parser().parse_args(arguments)
    kubectl = Kubectl(context=flags.context, kubeconfig=flags.kubeconfig)
    style = style_for(sys.stdout)
    try:
        if flags.command == "capacity":
            text, code = capacity(kubectl, flags.resource, style), OK
        elif flags.command == "explain":
            text, code = explain(kubectl, flags.name, flags.namespace, style), OK
        else:
            text, code = plan(kubectl, flags.filename, flags.nodes, flags.namespace, flags.output, style)
    except CommandError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return error.exit_code
    sys.stdout.write(text)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kubectl diffusion",
        description="What the diffusion operator decided and why, or what it would decide. Writes nothing.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("-n", "--namespace", help="namespace; default: the current context's")
    shared.add_argument("--context", help="kubeconfig context; default: the current one")
    shared.add_argument("--kubeconfig", help="kubeconfig file; default: kubectl's own")

    explain_command = commands.add_parser(
        "explain", parents=[shared], help="what was decided for one DiffusionDeployment, and why"
    )
    explain_command.add_argument("name", help="name of the DiffusionDeployment")

    capacity_command = commands.add_parser(
        "capacity", parents=[shared], help="nodes with GPUs: free, held, and in use outside Kubernetes"
    )
    capacity_command.add_argument(
        "--resource", default=DEFAULT_RESOURCE, help=f"the GPU resource; default: {DEFAULT_RESOURCE}"
    )

    plan_command = commands.add_parser(
        "plan", parents=[shared], help="what the operator would do with a manifest, without applying it"
    )
    plan_command.add_argument(
        "-f", "--filename", required=True, help="manifest of a DiffusionDeployment; - is stdin"
    )
    plan_command.add_argument(
        "--nodes",
        type=Path,
        help="file with nodes and pods, from `kubectl get nodes,pods -A -o yaml`; default: the live cluster",
    )
    plan_command.add_argument("-o", "--output", choices=("text", "json"), default="text")
    return parser


if __name__ == "__main__":
    sys.exit(main())
