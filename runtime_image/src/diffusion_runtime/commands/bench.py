"""`diffusion-runtime bench`: measure modes x layouts x sizes on this machine, beside what was predicted.

Each plan is followed by the same engine and ranks as in a pod: load, one request that does not count, then
the repeats. Of every plan that was measured on GPUs a Calibration document is written, which `plan
--calibrations` and the operator use in place of the formula. A plan that fails is told and the sweep goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from diffusion_runtime.commands.generate import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_NOTHING_FITS, node_here
from diffusion_runtime.commands.here import versions_here
from diffusion_runtime.commands.local_model import add_fetch_flags, local_model
from diffusion_runtime.commands.measurement import Failed, Measured, calibration_of, measure
from diffusion_runtime.commands.planning_flags import (
    add_model_flag,
    add_planning_flags,
    facts_from_flag,
    intent_from_flags,
    sentence,
    workload_from_flags,
)
from diffusion_runtime.commands.sweep import PLANNED, Candidate, Sweep, size_words, sizes_from_flag, sweep
from diffusion_runtime.loading.remote.source import FetchFailed
from diffusion_runtime.planning.documents import Plan
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.explain import format_bytes, format_seconds, layout_summary, residency_summary
from diffusion_runtime.planning.facts import ModelFacts

HELP = "measure modes, layouts and sizes on this machine"
MAX_REPEATS = 9
MODES = "speed,auto,0.5,memory"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `bench`; those of the planner say what every candidate has in common."""
    add_model_flag(parser)
    add_fetch_flags(parser)
    group = parser.add_argument_group("what is measured")
    group.add_argument("--modes", default=MODES, help=f"modes or biases, comma separated (default {MODES})")
    group.add_argument(
        "--layouts", default=PLANNED, help="planned (default), or for example planned,cfg=2,cfg=2+fsdp"
    )
    group.add_argument("--sizes", metavar="SIZES", help="for example 512x512,1024x1024 or 832x480x81")
    group.add_argument("--repeats", type=int, default=3, metavar="N", help="requests that count (default 3)")
    group.add_argument("--prompt", default="a lighthouse on a cliff above a calm sea at dawn")
    group.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="for calibrations, bench.json, bench.png"
    )
    add_planning_flags(parser)


def run(args: argparse.Namespace) -> int:
    """0 measured, 1 every plan failed, 2 bad input, 3 no plan fits."""
    try:
        planned = _sweep(args)
    except FetchFailed as error:
        return _fail(EXIT_FAILED, error.message)
    except ValueError as error:  # every error of the user is one; see planning.errors
        return _fail(EXIT_BAD_INPUT, sentence(error))
    for words in planned.without_plan:
        sys.stderr.write(f"no plan: {words}\n")
    if not planned.candidates:
        return _fail(EXIT_NOTHING_FITS, "nothing that was asked for fits this machine.")
    measured = list(_measure_all(args, planned))
    if not measured:
        return _fail(EXIT_FAILED, "no plan could be measured; the lines above say why.")
    _write(args, measured)
    return 0


def _sweep(args: argparse.Namespace) -> Sweep:
    if not 1 <= args.repeats <= MAX_REPEATS:
        raise BadRequest("repeats", f"--repeats is {args.repeats}; give 1 to {MAX_REPEATS}.")
    _check_folder(args.output)
    facts = _named(facts_from_flag(local_model(args)), args.model_path)
    workload = workload_from_flags(args, facts)
    shapes = workload.shapes if args.sizes is None else sizes_from_flag(args.sizes, workload.shapes[0])
    return sweep(
        facts,
        workload,
        intent_from_flags(args, facts),
        node_here(args),
        modes=args.modes.split(","),
        layouts=args.layouts.split(","),
        shapes=shapes,
    )


def _named(facts: ModelFacts, model: str) -> ModelFacts:
    """A calibration holds for the model by the name that plans ask for, not for the folder it lies in."""
    return facts.model_copy(update={"model": facts.model.model_copy(update={"name": model})})


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadRequest("output", f"--output {folder} cannot be made: {error.strerror}.") from error


def _measure_all(args: argparse.Namespace, planned: Sweep) -> Iterator[tuple[Candidate, Measured]]:
    _say(("size", "chosen by", "layout", "weights", "peak", "predicted", "request", "predicted"))
    for candidate in planned.candidates:
        result = measure(candidate.plan, args.prompt, args.repeats)
        if isinstance(result, Failed):
            sys.stderr.write(
                f"failed: {size_words(candidate.shape)}, {candidate.names[0]}: {result.message}\n"
            )
            continue
        _say(_cells(candidate, result))
        yield candidate, result


def _cells(candidate: Candidate, result: Measured) -> tuple[str, ...]:
    plan = candidate.plan
    on_cpu = plan.device == "cpu"
    return (
        size_words(candidate.shape),
        ", ".join(candidate.names),
        layout_summary(plan.layout, plan.gpus_per_replica),
        residency_summary(plan.residency),
        "no device bytes" if result.peak_bytes is None else format_bytes(result.peak_bytes),
        format_bytes(plan.memory.peak_per_gpu_bytes),
        format_seconds(result.per_request_seconds),
        "not predicted" if on_cpu else format_seconds(plan.time.per_request_seconds),
    )


def _write(args: argparse.Namespace, measured: list[tuple[Candidate, Measured]]) -> None:
    calibrations = args.output / "calibrations"
    calibrations.mkdir(exist_ok=True)
    written = 0
    for candidate, result in measured:
        document = calibration_of(candidate.plan, result, versions_here(driver=args.device == "cuda"))
        if document is not None:
            name = f"{candidate.plan.hash}-{size_words(candidate.shape)}.json"
            (calibrations / name).write_text(document.model_dump_json(by_alias=True, indent=1) + "\n")
            written += 1
    (args.output / "bench.json").write_text(
        json.dumps([beside(candidate, result) for candidate, result in measured], indent=1) + "\n"
    )
    sys.stdout.write(f"{written} calibrations in {calibrations}\n{args.output / 'bench.json'}\n")
    _plot(args.output / "bench.png", [(candidate.plan, result) for candidate, result in measured])


def beside(candidate: Candidate, result: Measured) -> dict[str, Any]:
    """One entry of bench.json: what was planned beside what was measured, bytes and seconds."""
    plan = candidate.plan
    return {
        "model": plan.model.name,
        "gpuProduct": plan.gpu_product,
        "size": size_words(candidate.shape),
        "steps": candidate.shape.steps,
        "chosenBy": list(candidate.names),
        "layout": layout_summary(plan.layout, plan.gpus_per_replica),
        "residency": residency_summary(plan.residency),
        "planHash": plan.hash,
        "plannedPeakBytes": plan.memory.peak_per_gpu_bytes,
        "measuredPeakBytes": result.peak_bytes,
        "plannedRequestSeconds": None if plan.device == "cpu" else plan.time.per_request_seconds,
        "measuredRequestSeconds": result.per_request_seconds,
        "plannedPhases": plan.memory.phases.to_dict(),
        "measuredPhases": {name: phase.to_dict() for name, phase in result.phases.items()},
    }


def _plot(file: Path, measured: list[tuple[Plan, Measured]]) -> None:
    """matplotlib is the extra `plot`; the calibrations are whole without it."""
    try:
        import_module("matplotlib")
    except ImportError:
        sys.stderr.write("No bench.png: it needs matplotlib, pip install 'diffusion-runtime[plot]'.\n")
        return
    import_module("diffusion_runtime.commands.bench_plot").draw(file, measured)
    sys.stdout.write(f"{file}\n")


def _say(cells: tuple[str, ...]) -> None:
    widths = (12, 16, 14, 46, 15, 10, 8, 13)
    line = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
    sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"diffusion-runtime bench: {message}\n")
    return code
