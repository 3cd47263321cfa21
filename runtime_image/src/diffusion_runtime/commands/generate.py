"""`diffusion-runtime generate`: plan for this machine, draw, write files.

No server, but the same engine and ranks. With `--device cpu` the machine counts as `--num-gpus` devices that
share its memory; otherwise the driver says what is here.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from diffusion_runtime.commands.here import gpus_here
from diffusion_runtime.commands.local_model import add_fetch_flags, local_model
from diffusion_runtime.commands.planning_flags import (
    add_model_flag,
    add_planning_flags,
    boolean,
    facts_from_flag,
    intent_from_flags,
    sentence,
    workload_from_flags,
)
from diffusion_runtime.loading.remote.source import FetchFailed
from diffusion_runtime.planning.devices import GpuNode, device_from_product
from diffusion_runtime.planning.documents import NoPlan, Plan
from diffusion_runtime.planning.search import make_plan

HELP = "plan for this machine, draw pictures or clips, write files"
EXIT_FAILED, EXIT_BAD_INPUT, EXIT_NOTHING_FITS = 1, 2, 3
CLIP_SUFFIX = ".mp4"
FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `generate`; those of the planner are the same as of `plan`."""
    add_model_flag(parser)
    add_fetch_flags(parser)
    parser.add_argument("--prompt", required=True)
    parser.add_argument("--negative-prompt", metavar="PROMPT")
    parser.add_argument("--seed", type=int, help="same seed, same picture (default: a new one each time)")
    parser.add_argument("--num-images", type=int, default=1, metavar="N", help="seeds count up")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help=".png, .jpg or .webp; a clip .mp4",
    )
    parser.add_argument("--image-path", type=Path, metavar="FILE", help="the picture that a clip begins with")
    parser.add_argument("--fps", type=float, metavar="RATE", help="frames a second (default: the model's)")
    parser.add_argument(
        "--two-stages",
        type=boolean,
        metavar="true|false",
        help="half of the size first, then upsampled and denoised again (a model with a latent upsampler)",
    )
    parser.add_argument(
        "--second-stage-steps", type=int, metavar="N", help="default: a third of --num-inference-steps"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="what was planned and measured, as JSON")
    add_planning_flags(parser)


def run(args: argparse.Namespace) -> int:
    """0 drawn, 1 the engine failed, 2 bad input or refused, 3 nothing fits; one sentence on stderr."""
    try:
        answer = _plan(args)
        if isinstance(answer, NoPlan):
            return _fail(EXIT_NOTHING_FITS, answer.message)
        return _draw(args, answer)
    except FetchFailed as error:
        return _fail(EXIT_FAILED, error.message)
    except ValueError as error:  # every error of the user is one; see planning.errors
        return _fail(EXIT_BAD_INPUT, sentence(error))


def _plan(args: argparse.Namespace) -> Plan | NoPlan:
    """The plan for the devices of this machine."""
    if not args.output.parent.is_dir():
        raise ValueError(f"--output {args.output}: folder {args.output.parent} does not exist.")
    if args.report is not None and not args.report.parent.is_dir():
        raise ValueError(f"--report {args.report}: folder {args.report.parent} does not exist.")
    facts = facts_from_flag(local_model(args))
    _check_files(args, draws_clips=facts.sizes.frame_multiple > 0)
    intent, workload = intent_from_flags(args, facts), workload_from_flags(args, facts)
    return make_plan(facts, workload, intent, [node_here(args)])


def _check_files(args: argparse.Namespace, *, draws_clips: bool) -> None:
    suffixes = (CLIP_SUFFIX,) if draws_clips else tuple(FORMATS)
    if args.output.suffix.lower() not in suffixes:
        what = "clips" if draws_clips else "pictures"
        raise ValueError(
            f"--output {args.output} must end in {' or '.join(suffixes)}: {args.model_path} makes {what}."
        )
    if args.fps is not None and not draws_clips:
        raise ValueError(f"--fps is for clips; {args.model_path} draws pictures.")
    if not draws_clips and (args.two_stages is not None or args.second_stage_steps is not None):
        raise ValueError(f"--two-stages is for clips; {args.model_path} draws pictures.")
    if args.image_path is None:
        return
    if not draws_clips:
        raise ValueError(f"--image-path is the first picture of a clip; {args.model_path} draws pictures.")
    if not args.image_path.is_file():
        raise ValueError(f"--image-path {args.image_path} is no file.")


def _draw(args: argparse.Namespace, plan: Plan) -> int:
    from diffusion_runtime.loading.refusal import EngineRefusal
    from diffusion_runtime.server.draw_once import draw_once
    from diffusion_runtime.server.openai_errors import ApiError
    from diffusion_runtime.server.rank_group import UndrawableRequest
    from diffusion_runtime.server.termination import EngineEnded

    try:
        first = args.image_path.read_bytes() if args.image_path else None
        wanted, pictures, report = draw_once(plan, _body(args), first)
    except (ApiError, EngineRefusal) as error:
        return _fail(EXIT_BAD_INPUT, error.message)
    except UndrawableRequest as error:
        return _fail(EXIT_BAD_INPUT if error.failure.field else EXIT_FAILED, error.failure.message)
    except EngineEnded as error:
        return _fail(error.exit_code, f"{error.failure.reason}: {error.failure.message}")
    if args.report is not None:
        args.report.write_text(report.to_json() + "\n")
    if report.executing_reason is not None:
        sys.stderr.write(f"A fallback of the plan was executed: {report.executing_reason}\n")
    for index, (request, picture) in enumerate(zip(wanted, pictures, strict=True)):
        path = args.output if index == 0 else args.output.with_stem(f"{args.output.stem}-{index + 1}")
        path.write_bytes(picture.body)
        sys.stdout.write(f"{path} (seed {request.seed})\n")
    return 0


def _body(args: argparse.Namespace) -> dict[str, Any]:
    """The same fields that the HTTP call takes, so that both are checked alike; the size is the plan's."""
    body = {
        "prompt": args.prompt,
        "negative_prompt": args.negative_prompt,
        "seed": args.seed,
        "n": args.num_images,
        "guidance_scale": args.guidance_scale,
    }
    if args.output.suffix.lower() == CLIP_SUFFIX:
        stages = {"two_stages": args.two_stages, "second_stage_steps": args.second_stage_steps}
        return body | {"fps": args.fps} | stages
    return body | {"output_format": FORMATS[args.output.suffix.lower()]}


def node_here(args: argparse.Namespace) -> GpuNode:
    """What this machine has for `--device`. Raises ValueError when that is nothing."""
    if args.device == "cpu":
        return _this_cpu(args)
    return GpuNode(name="here", gpus=gpus_here("set --device cpu to draw on the CPU"))


def _this_cpu(args: argparse.Namespace) -> GpuNode:
    """The host's memory, shared evenly by as many devices as ranks are asked for."""
    count = max(args.num_gpus or (2 if args.enable_cfg_parallel else 1), 1)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // count
    return GpuNode(name="here", gpus=(device_from_product("CPU", memory_bytes=memory),) * count)


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"diffusion-runtime generate: {message}\n")
    return code
