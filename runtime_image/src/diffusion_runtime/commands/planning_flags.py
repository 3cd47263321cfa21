"""Command-line flags of the planner and what they mean as Intent and Workload.

Names are those of the cookbook's system, so that a command line can move over. Not given means planned.
"""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from diffusion_runtime.loading.allowed import of_family
from diffusion_runtime.models.catalog import facts_for, facts_from_folder, known_models
from diffusion_runtime.planning.devices import Device, device_from_product
from diffusion_runtime.planning.documents import ComponentKind, ResidencyMode, Shape, Workload
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.units import parse_bytes

_OFFLOAD_FLAGS: dict[str, tuple[ComponentKind, ResidencyMode]] = {
    "dit_cpu_offload": ("transformer", "component"),
    "dit_layerwise_offload": ("transformer", "layerwise"),
    "text_encoder_cpu_offload": ("textEncoder", "component"),
    "image_encoder_cpu_offload": ("imageEncoder", "component"),
    "vae_cpu_offload": ("vae", "component"),
}


def add_model_flag(parser: argparse.ArgumentParser) -> None:
    """`--model-path`: a known id or a local diffusers folder."""
    known = ", ".join(known_models())
    parser.add_argument("--model-path", required=True, metavar="MODEL", help=f"a folder, or one of {known}")


def add_planning_flags(parser: argparse.ArgumentParser) -> None:
    """Every flag that becomes Intent or Workload."""
    mode = parser.add_argument_group("what matters")
    mode.add_argument(
        "--performance-mode", "--mode", choices=("manual", "auto", "speed", "memory"), default="auto"
    )
    mode.add_argument("--performance-bias", type=float, metavar="B", help="0 least memory ... 1 least time")
    mode.add_argument("--objective", choices=("balanced", "latency", "throughput"), default="balanced")
    mode.add_argument("--memory-reserve", metavar="SIZE", help="kept free per GPU: 5%% (default) or 2GiB")
    mode.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="where arithmetic runs")
    layout = parser.add_argument_group("explicit settings, which always win")
    layout.add_argument("--num-gpus", type=int, metavar="N", help="GPUs per replica")
    layout.add_argument("--use-fsdp-inference", type=boolean, metavar="true|false")
    layout.add_argument("--fsdp-blocks-per-unit", type=int, metavar="N", help="blocks gathered together")
    layout.add_argument("--enable-cfg-parallel", type=boolean, metavar="true|false")
    layout.add_argument("--ulysses-degree", type=int, metavar="N")
    layout.add_argument("--ring-degree", type=int, metavar="N")
    layout.add_argument("--tp-size", type=int, metavar="N")
    layout.add_argument(
        "--text-encoder-tp",
        type=boolean,
        metavar="true|false",
        help="slice text encoders over all GPUs",
    )
    for flag in _OFFLOAD_FLAGS:
        layout.add_argument(f"--{flag.replace('_', '-')}", type=boolean, metavar="true|false")
    layout.add_argument("--enable-torch-compile", type=boolean, metavar="true|false")
    layout.add_argument("--attention-backend", metavar="NAME")
    layout.add_argument("--vae-tile-size", type=int, metavar="PIXELS")
    shape = parser.add_argument_group("what is drawn (default: the family's)")
    shape.add_argument("--width", type=int, metavar="PIXELS")
    shape.add_argument("--height", type=int, metavar="PIXELS")
    shape.add_argument("--num-frames", type=int, metavar="N")
    shape.add_argument("--num-inference-steps", type=int, metavar="N")
    shape.add_argument("--guidance-scale", type=float, metavar="S", help="above 1 turns guidance on")


def boolean(text: str) -> bool:
    """`true` or `false`, nothing else."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def facts_from_flag(model: str) -> ModelFacts:
    """Facts of a known id or a folder. Raises UnknownModel or BadModelFolder."""
    looks_local = model.startswith((".", "~", os.sep)) or Path(model).is_dir()
    if model not in known_models() and looks_local:
        return facts_from_folder(Path(model).expanduser())
    return facts_for(model)


def intent_from_flags(args: argparse.Namespace, facts: ModelFacts) -> Intent:
    """Mode and explicit settings. Raises BadRequest or pydantic's ValidationError."""
    fraction, reserve = _reserve(args.memory_reserve)
    return Intent(
        mode=args.performance_mode,
        bias=args.performance_bias,
        objective=args.objective,
        memory_reserve_fraction=fraction,
        memory_reserve_bytes=reserve,
        device=args.device,
        gpus_per_replica=args.num_gpus,
        ulysses=args.ulysses_degree,
        ring=args.ring_degree,
        tensor=args.tp_size,
        text_encoder_tensor=args.text_encoder_tp,
        fsdp=args.use_fsdp_inference,
        cfg_parallel=args.enable_cfg_parallel,
        residency=_residency(args, facts),
        compile=args.enable_torch_compile,
        attention_backend=args.attention_backend,
        vae_tile_size=args.vae_tile_size,
        fsdp_blocks_per_unit=args.fsdp_blocks_per_unit,
    )


def workload_from_flags(args: argparse.Namespace, facts: ModelFacts) -> Workload:
    """One shape, the family's default where a flag is not given."""
    default, scale = facts.default_shape, args.guidance_scale
    if scale is not None and (not math.isfinite(scale) or scale < 0):
        raise BadRequest("guidanceScale", f"--guidance-scale is {scale}; give a number from 0 on.")
    given = {
        "width": args.width,
        "height": args.height,
        "frames": args.num_frames,
        "steps": args.num_inference_steps,
    }
    shape = Shape.model_validate(default.model_dump() | {k: v for k, v in given.items() if v is not None})
    guidance = "auto" if scale is None else _second_pass(scale, facts)
    return Workload.model_validate({"shapes": (shape,), "guidance": guidance})


def _second_pass(scale: float, facts: ModelFacts) -> str:
    """Whether a scale means a second pass a step; a model that reads it as an input needs none for it."""
    family = of_family(facts.model.family)
    if family is not None and family.embeds_guidance:
        return "auto"
    return "on" if scale > (1.0 if family is None else family.unguided_scale) else "off"


def gpu_from_flag(text: str) -> Device:
    """`H200`, `H200:free=20GiB`, `Quadro-X:memory=24GiB`. Raises UnknownHardware or BadRequest."""
    product, *settings = text.split(":")
    sizes: dict[str, int] = {}
    for setting in settings:
        key, _, value = setting.partition("=")
        if key not in ("free", "memory"):
            raise BadRequest(
                "gpu", f"--gpu {text}: {setting!r} is not understood; write free=SIZE or memory=SIZE."
            )
        sizes[key] = parse_bytes(value, f"--gpu {text}")
    return device_from_product(product, memory_bytes=sizes.get("memory"), free_bytes=sizes.get("free"))


def sentence(error: Exception) -> str:
    """One sentence for a user's error; pydantic's first complaint names field and value."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        field = to_camel(".".join(str(part) for part in first["loc"]))
        return f"{field} is {first['input']!r}: {first['msg']}."
    return str(error)


def _residency(args: argparse.Namespace, facts: ModelFacts) -> dict[str, ResidencyMode]:
    """Offload flags by component: true moves, false keeps resident; layerwise wins over a component
    `false`.
    """
    chosen: dict[str, ResidencyMode] = {}
    if args.dit_cpu_offload and args.dit_layerwise_offload:
        raise BadRequest(
            "residency", "--dit-cpu-offload and --dit-layerwise-offload exclude each other: set one."
        )
    for flag, (kind, mode) in _OFFLOAD_FLAGS.items():
        value = getattr(args, flag)
        names = [component.name for component in facts.components if component.kind == kind]
        if value is None:
            continue
        if not names:
            option = f"--{flag.replace('_', '-')}"
            raise BadRequest(
                "residency", f"{option}: {facts.model.name} has no such component; leave it out."
            )
        for name in names:
            if value:
                chosen[name] = mode
            else:
                chosen.setdefault(name, "resident")
    return chosen


def _reserve(text: str | None) -> tuple[float | None, int | None]:
    if text is None:
        return None, None
    if not text.endswith("%"):
        return None, parse_bytes(text, "--memory-reserve")
    try:
        percent = float(text[:-1])
    except ValueError:
        percent = math.nan
    if not 0 <= percent < 100:
        raise BadRequest("memoryReserve", f"--memory-reserve {text}: give a share from 0% to 99%, or a size.")
    return percent / 100, None
