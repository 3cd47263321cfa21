"""`diffusion-runtime plan`: says what would run where, and why. Needs neither a GPU nor torch.

GPUs are given by name; those of one product form the candidates of one plan, and the fastest plan is printed.
"""

from __future__ import annotations

import argparse
import json
import sys

from diffusion_runtime.commands.planning_flags import (
    add_model_flag,
    add_planning_flags,
    facts_from_flag,
    gpu_from_flag,
    intent_from_flags,
    sentence,
    workload_from_flags,
)
from diffusion_runtime.planning.devices import Device, GpuNode
from diffusion_runtime.planning.documents import NoPlan, Plan
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.explain import no_plan_table, plan_table
from diffusion_runtime.planning.search import make_plan
from diffusion_runtime.planning.units import parse_bytes

EXIT_PLANNED, EXIT_BAD_INPUT, EXIT_NOTHING_FITS = 0, 2, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `plan`."""
    add_model_flag(parser)
    parser.add_argument(
        "--gpu",
        action="append",
        required=True,
        metavar="NAME[:free=SIZE][:memory=SIZE]",
        help="one GPU of this machine; repeat for more",
    )
    parser.add_argument("--host-memory", metavar="SIZE", help="free host memory (default: not checked)")
    parser.add_argument("--replicas", type=int, default=1, metavar="N", help="copies that must fit at once")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    add_planning_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Print the plan; 0 planned, 2 bad input, 3 nothing fits (the shortfall goes to stderr)."""
    try:
        answer = _answer(args)
    except ValueError as error:  # every error of the user is one; see planning.errors
        print(f"diffusion-runtime plan: {sentence(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    if isinstance(answer, Plan):
        print(_json(answer) if args.output == "json" else plan_table(answer), end="")
        return EXIT_PLANNED
    print(_json(answer) if args.output == "json" else no_plan_table(answer), end="")
    print(f"diffusion-runtime plan: {answer.message}", file=sys.stderr)
    return EXIT_NOTHING_FITS


def _answer(args: argparse.Namespace) -> Plan | NoPlan:
    if args.replicas < 1:
        raise BadRequest("replicas", f"--replicas is {args.replicas}; give 1 or more.")
    facts = facts_from_flag(args.model_path)
    intent, workload = intent_from_flags(args, facts), workload_from_flags(args, facts)
    host = parse_bytes(args.host_memory, "--host-memory") if args.host_memory is not None else None
    groups: dict[str, list[Device]] = {}
    for device in map(gpu_from_flag, args.gpu):
        groups.setdefault(f"{device.name}/{device.shared}", []).append(device)
    answers = [
        make_plan(
            facts,
            workload,
            intent,
            [GpuNode(name="here", gpus=tuple(gpus), host_free_bytes=host)],
            args.replicas,
        )
        for gpus in groups.values()
    ]
    plans = [answer for answer in answers if isinstance(answer, Plan)]
    if plans:
        return min(plans, key=lambda plan: plan.time.per_request_seconds)
    refusals = [answer for answer in answers if isinstance(answer, NoPlan)]
    return min(refusals, key=lambda refusal: (refusal.shortfall_bytes is None, refusal.shortfall_bytes or 0))


def _json(document: Plan | NoPlan) -> str:
    return json.dumps(document.to_dict(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
