"""`diffusion-runtime plan`: says what would run where, and why. Needs neither a GPU nor torch.

GPUs are given by name, or read from this machine's driver. Those of one product form the candidates of one
plan, and the fastest plan is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusion_runtime.commands.compare import comparison
from diffusion_runtime.commands.here import gpus_here, versions_here
from diffusion_runtime.commands.planning_flags import (
    add_model_flag,
    add_planning_flags,
    facts_from_flag,
    gpu_from_flag,
    intent_from_flags,
    sentence,
    workload_from_flags,
)
from diffusion_runtime.commands.plot import check_plot, draw
from diffusion_runtime.planning.calibrations import Calibration, Versions, read_calibrations
from diffusion_runtime.planning.devices import Device, GpuNode
from diffusion_runtime.planning.documents import ModeName, NoPlan, Plan, Workload
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.explain import no_plan_table, plan_table
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.points import picture_of
from diffusion_runtime.planning.search import make_plan
from diffusion_runtime.planning.units import parse_bytes

EXIT_PLANNED, EXIT_BAD_INPUT, EXIT_NOTHING_FITS = 0, 2, 3
MODES: tuple[ModeName, ...] = ("manual", "auto", "speed", "memory")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `plan`."""
    add_model_flag(parser)
    parser.add_argument(
        "--gpu",
        action="append",
        metavar="NAME[:free=SIZE][:memory=SIZE]",
        help="one GPU to plan for; repeat for more (default: the GPUs of this machine)",
    )
    parser.add_argument("--host-memory", metavar="SIZE", help="free host memory (default: not checked)")
    parser.add_argument("--replicas", type=int, default=1, metavar="N", help="copies that must fit at once")
    parser.add_argument("--calibrations", type=Path, metavar="DIR", help="measurements that replace formulas")
    parser.add_argument("--output", choices=("table", "json"), default="table")
    parser.add_argument("--compare", action="store_true", help="all modes side by side")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the speed-memory front")
    add_planning_flags(parser)
    same = parser.add_argument_group("taken from a generate command line; a plan is the same for all of them")
    same.add_argument("--prompt", metavar="TEXT", help="planned for the longest prompt")
    same.add_argument("--seed", type=int, metavar="N")
    same.add_argument("--offline", action="store_true", help="planning never needs a network")


def run(args: argparse.Namespace) -> int:
    """Print the plan; 0 planned, 2 bad input, 3 nothing fits (the shortfall goes to stderr)."""
    try:
        question = _question(args)
        if args.compare:
            return _compare(args, question)
        answer, nodes = question.best(question.intent)
        if args.plot is not None and isinstance(answer, Plan):
            draw(answer, question.picture(answer, nodes), args.plot)
    except ValueError as error:  # every error of the user is one; see planning.errors
        print(f"diffusion-runtime plan: {sentence(error)}", file=sys.stderr)
        return EXIT_BAD_INPUT
    if isinstance(answer, Plan):
        print(_json(answer.to_dict()) if args.output == "json" else plan_table(answer), end="")
        return EXIT_PLANNED
    print(_json(answer.to_dict()) if args.output == "json" else no_plan_table(answer), end="")
    print(f"diffusion-runtime plan: {answer.message}", file=sys.stderr)
    return EXIT_NOTHING_FITS


@dataclass(frozen=True)
class _Question:
    """Everything that was asked. `groups` is one node per GPU product."""

    facts: ModelFacts
    workload: Workload
    intent: Intent
    groups: tuple[GpuNode, ...]
    replicas: int
    calibrations: tuple[Calibration, ...]
    versions: Versions

    def best(self, intent: Intent) -> tuple[Plan | NoPlan, GpuNode]:
        """The fastest plan over all products, else the refusal that lacks least."""
        answers = [(self._plan(intent, node), node) for node in self.groups]
        plans = [(a, node) for a, node in answers if isinstance(a, Plan)]
        if plans:
            return min(plans, key=lambda found: found[0].time.per_request_seconds)
        refusals = [(a, node) for a, node in answers if isinstance(a, NoPlan)]
        return min(refusals, key=lambda f: (f[0].shortfall_bytes is None, f[0].shortfall_bytes or 0))

    def picture(self, plan: Plan, node: GpuNode) -> Any:
        """The candidates around a plan."""
        return picture_of(plan, self.facts, self.workload, self.intent, [node], self.replicas)

    def _plan(self, intent: Intent, node: GpuNode) -> Plan | NoPlan:
        return make_plan(
            self.facts,
            self.workload,
            intent,
            [node],
            self.replicas,
            calibrations=self.calibrations,
            versions=self.versions,
        )


def _question(args: argparse.Namespace) -> _Question:
    """The flags, read. Raises ValueError with a sentence."""
    if args.replicas < 1:
        raise BadRequest("replicas", f"--replicas is {args.replicas}; give 1 or more.")
    if args.plot is not None:
        if args.compare:
            raise BadRequest("plot", "--plot draws one plan and --compare shows several: give one of them.")
        check_plot(args.plot)
    facts = facts_from_flag(args.model_path)
    intent, workload = intent_from_flags(args, facts), workload_from_flags(args, facts)
    host = parse_bytes(args.host_memory, "--host-memory") if args.host_memory is not None else None
    devices = [gpu_from_flag(text) for text in args.gpu] if args.gpu else list(gpus_here())
    groups: dict[str, list[Device]] = {}
    for device in devices:
        groups.setdefault(f"{device.name}/{device.shared}", []).append(device)
    return _Question(
        facts=facts,
        workload=workload,
        intent=intent,
        groups=tuple(GpuNode(name="here", gpus=tuple(g), host_free_bytes=host) for g in groups.values()),
        replicas=args.replicas,
        calibrations=read_calibrations(args.calibrations) if args.calibrations is not None else (),
        versions=versions_here(driver=not args.gpu),
    )


def _compare(args: argparse.Namespace, question: _Question) -> int:
    """All modes, and the bias where one is given. 0 when any mode has a plan."""
    answers: dict[str, Plan | NoPlan] = {}
    for mode in MODES:
        answers[mode] = question.best(question.intent.model_copy(update={"mode": mode, "bias": None}))[0]
    if question.intent.bias is not None:
        answers[f"bias {question.intent.bias:g}"] = question.best(question.intent)[0]
    if args.output == "json":
        print(_json({name: answer.to_dict() for name, answer in answers.items()}), end="")
    else:
        print(comparison(answers), end="")
    if any(isinstance(answer, Plan) for answer in answers.values()):
        return EXIT_PLANNED
    refusal = next(answer for answer in answers.values() if isinstance(answer, NoPlan))
    print(f"diffusion-runtime plan: {refusal.message}", file=sys.stderr)
    return EXIT_NOTHING_FITS


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
