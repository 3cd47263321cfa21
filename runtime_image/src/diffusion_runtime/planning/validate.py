"""Settles workload and intent against the facts, or says in one sentence what can never work and what would.

Nothing here depends on free memory; the only thing asked of the device is which dtypes it has.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from diffusion_runtime.planning.calibrations import UNKNOWN_VERSIONS, Calibration, Versions
from diffusion_runtime.planning.devices import Device, device_from_product
from diffusion_runtime.planning.documents import DtypeName, Shape, Workload
from diffusion_runtime.planning.errors import BadRequest, UnknownHardware
from diffusion_runtime.planning.facts import SLICEABLE_ENCODERS, LayoutAxis, ModelFacts
from diffusion_runtime.planning.intent import MAX_GPUS, Intent
from diffusion_runtime.planning.layouts import explicit_axes, fillable_counts
from diffusion_runtime.planning.problem import Problem

_COUNTS_SHOWN = 16


class NoUsableDtype(Exception):
    """The GPU lacks bfloat16 and the family is not correct in float16."""


def settle(
    facts: ModelFacts,
    workload: Workload,
    intent: Intent,
    device: Device,
    calibrations: Sequence[Calibration] = (),
    versions: Versions = UNKNOWN_VERSIONS,
) -> Problem:
    """The problem with every default filled in. Raises BadRequest, or NoUsableDtype for this device."""
    shapes = workload.shapes or (facts.default_shape,)
    for index, shape in enumerate(shapes):
        check_shape(facts, shape, f"workload.shapes[{index}]")
    guided = facts.guided_by_default if workload.guidance == "auto" else workload.guidance == "on"
    facts = _slices_stay(facts, intent)
    _check_components(facts, intent)
    _check_axes(facts, intent, guided)
    _check_counts(intent)
    _check_fsdp(facts, intent)
    _check_text_encoders(facts, intent)
    _check_tile(facts, intent)
    dtypes = settle_dtypes(facts, intent, device)
    measured = tuple(c for c in calibrations if _concerns(c, facts, guided, device))
    problem = Problem(facts, shapes, guided, intent, dtypes, device, measured, versions)
    _check_filled(problem)
    return problem


def check_shape(facts: ModelFacts, shape: Shape, field: str) -> None:
    """Raises BadRequest when the family cannot draw this size."""
    step = facts.sizes.multiple
    for name, pixels in (("width", shape.width), ("height", shape.height)):
        if pixels % step:
            low, high = pixels // step * step, -(-pixels // step) * step
            near = " or ".join(str(size) for size in (low, high) if size)
            raise BadRequest(
                f"{field}.{name}",
                f"{field}.{name} is {pixels}, but {facts.model.family} draws multiples of {step}: try "
                f"{near}.",
            )
    every = facts.sizes.frame_multiple
    if every == 0 and shape.frames != 1:
        raise BadRequest(
            f"{field}.frames",
            f"{field}.frames is {shape.frames}, but {facts.model.family} draws single pictures: leave "
            "it at 1.",
        )
    if every and (shape.frames - 1) % every:
        low = (shape.frames - 1) // every * every + 1
        raise BadRequest(
            f"{field}.frames",
            f"{field}.frames is {shape.frames}, but {facts.model.family} draws {every}k+1 frames: "
            f"try {low} or {low + every}.",
        )


def _concerns(calibration: Calibration, facts: ModelFacts, guided: bool, device: Device) -> bool:
    """Same model (and revision, where both are known), same product, same guidance."""
    model = facts.model
    same_revision = None in (model.revision, calibration.revision) or model.revision == calibration.revision
    same_model = calibration.model == model.name and same_revision
    if not same_model or calibration.guidance != guided:
        return False
    return _device_name(calibration.gpu_product) == _device_name(device.product)


@cache
def _device_name(product: str) -> str:
    """One name for a product, however it is written."""
    try:
        return device_from_product(product).name
    except UnknownHardware:
        return product


def settle_dtypes(facts: ModelFacts, intent: Intent, device: Device) -> dict[str, DtypeName]:
    """Dtype per component: explicit, else float32 on the CPU, else the family's, else float16 where it is
    correct.
    """
    dtypes: dict[str, DtypeName] = {}
    for component in facts.components:
        dtype: DtypeName = "float32" if intent.device == "cpu" else component.default_dtype
        dtype = intent.dtype.get(component.name, dtype)
        if intent.device == "cuda" and dtype not in device.dtypes:
            if component.name in intent.dtype or "float16" not in facts.correct_dtypes:
                raise NoUsableDtype(
                    f"{device.name} has no {dtype}, and {facts.model.family} is not known to be "
                    "correct in float16; "
                    f"use a GPU with bfloat16, or set dtype.{component.name} to float32."
                )
            dtype = "float16"
        dtypes[component.name] = dtype
    return dtypes


def _check_components(facts: ModelFacts, intent: Intent) -> None:
    for field, given in (("residency", intent.residency), ("dtype", intent.dtype)):
        for name in given:
            if name not in facts.component_names:
                known = ", ".join(facts.component_names)
                raise BadRequest(
                    f"{field}.{name}",
                    f"{field}.{name}: {facts.model.name} has no such component; it has {known}.",
                )
    for name, mode in intent.residency.items():
        component = facts.component(name)
        if mode not in component.correct_residencies:
            offered = " or ".join(component.correct_residencies)
            raise BadRequest(
                f"residency.{name}",
                f"residency.{name} is {mode}, which is not validated for this {component.kind}; use "
                f"{offered}.",
            )


def _slices_stay(facts: ModelFacts, intent: Intent) -> ModelFacts:
    """Under tensor parallelism a transformer's slices stay on their GPUs: only resident is left."""
    if (intent.tensor or 1) == 1:
        return facts
    for component in facts.components:
        mode = intent.residency.get(component.name, "resident")
        if component.kind == "transformer" and mode != "resident":
            raise BadRequest(
                f"residency.{component.name}",
                f"residency.{component.name} is {mode} together with tensor parallelism, whose slices stay "
                "on their GPUs: use resident.",
            )
    return facts.model_copy(
        update={
            "components": tuple(
                c.model_copy(update={"correct_residencies": ("resident",)}) if c.kind == "transformer" else c
                for c in facts.components
            )
        }
    )


def _check_axes(facts: ModelFacts, intent: Intent, guided: bool) -> None:
    if intent.cfg_parallel is not None and intent.cfg not in (None, 2 if intent.cfg_parallel else 1):
        raise BadRequest(
            "cfg", f"cfg is {intent.cfg} but CFG parallel is set to {intent.cfg_parallel}: drop one."
        )
    cfg = intent.cfg or (2 if intent.cfg_parallel else 1)
    if cfg > 2:
        raise BadRequest("cfg", f"cfg is {cfg}, but guidance has two branches: use 1 or 2.")
    if cfg == 2 and not guided:
        raise BadRequest(
            "cfg", "cfg is 2, but guidance is off and there is only one branch: use cfg 1 or guidance on."
        )
    degrees: dict[LayoutAxis, int] = {
        "cfg": cfg,
        "ulysses": intent.ulysses or 1,
        "ring": intent.ring or 1,
        "tensor": intent.tensor or 1,
    }
    for axis, degree in degrees.items():
        if degree > 1 and axis not in facts.correct_axes:
            offered = ", ".join(facts.correct_axes) or "none"
            raise BadRequest(
                axis,
                f"{axis} is {degree}, which is not validated for {facts.model.family}; validated are "
                f"{offered}.",
            )
    if degrees["ulysses"] > 1 and degrees["ring"] > 1:
        raise BadRequest(
            "ring",
            f"ring is {degrees['ring']} together with ulysses {degrees['ulysses']}, but prompts of any "
            "length can be split one way only: use one of them.",
        )
    if degrees["tensor"] > 1 and intent.compile:
        raise BadRequest(
            "compile",
            f"compile is true together with tensor {degrees['tensor']}, but sliced matrices cannot be "
            "compiled for prompts of any length: leave one of them out.",
        )
    heads = facts.denoise.heads
    for axis in ("ulysses", "tensor"):
        if heads % degrees[axis]:
            divisors = ", ".join(str(d) for d in range(1, heads + 1) if heads % d == 0)
            raise BadRequest(
                axis, f"{axis} is {degrees[axis]}, which does not divide {heads} heads: use {divisors}."
            )


def _check_counts(intent: Intent) -> None:
    for field, count in (
        ("gpusPerReplica", intent.gpus_per_replica),
        ("maxGPUsPerReplica", intent.max_gpus_per_replica),
    ):
        if count is not None and count > MAX_GPUS:
            raise BadRequest(field, f"{field} is {count}; no node holds more than {MAX_GPUS} GPUs.")
    most = intent.max_gpus_per_replica
    if intent.gpus_per_replica and most and intent.gpus_per_replica > most:
        raise BadRequest(
            "gpusPerReplica", f"gpusPerReplica is {intent.gpus_per_replica}, above maxGPUsPerReplica {most}."
        )
    if intent.memory_reserve_fraction is not None and intent.memory_reserve_bytes is not None:
        raise BadRequest("memoryReserve", "memoryReserve is given both as a share and in bytes: give one.")


def _check_fsdp(facts: ModelFacts, intent: Intent) -> None:
    unit = intent.fsdp_blocks_per_unit
    most = max(component.block_count for component in facts.components)
    if unit is not None and unit > max(1, most):
        raise BadRequest(
            "fsdpBlocksPerUnit",
            f"fsdpBlocksPerUnit is {unit}, but {facts.model.name} has {most} blocks: "
            f"use 1 to {max(1, most)}.",
        )
    if intent.fsdp is not True:
        return
    if "fsdp" not in facts.correct_axes:
        raise BadRequest(
            "fsdp", f"fsdp is true, but FSDP is not validated for {facts.model.family}: leave it out."
        )
    if 1 in (intent.gpus_per_replica, intent.max_gpus_per_replica):
        raise BadRequest(
            "fsdp",
            "fsdp is true, but one GPU has nobody to shard with: use 2 or more GPUs, or offload instead.",
        )
    if (intent.tensor or 1) > 1:
        raise BadRequest(
            "fsdp", "fsdp is true together with tensor parallelism: choose one way to split weights."
        )
    for component in facts.components:
        mode = intent.residency.get(component.name, "resident")
        if component.kind == "transformer" and mode != "resident":
            raise BadRequest(
                f"residency.{component.name}",
                f"residency.{component.name} is {mode}, but FSDP keeps its shards resident: drop one "
                "of the two.",
            )


def _check_text_encoders(facts: ModelFacts, intent: Intent) -> None:
    if not intent.text_encoder_tensor:
        return
    if not any(component.slices for component in facts.components):
        has = ", ".join(c.class_name for c in facts.components if c.kind == "textEncoder")
        raise BadRequest(
            "textEncoderTensor",
            f"textEncoderTensor is true, but no text encoder of {facts.model.name} ({has}) has a "
            f"tensor-parallel plan; these have: {', '.join(SLICEABLE_ENCODERS)}.",
        )
    if 1 in (intent.gpus_per_replica, intent.max_gpus_per_replica):
        raise BadRequest(
            "textEncoderTensor",
            "textEncoderTensor is true, but one GPU has nobody to share with: use 2 or more GPUs.",
        )


def _check_tile(facts: ModelFacts, intent: Intent) -> None:
    size = intent.vae_tile_size
    if size is None:
        return
    if facts.decode.tile_size is None:
        raise BadRequest(
            "vaeTileSize", f"vaeTileSize is {size}, but {facts.model.family} does not decode in tiles."
        )
    if size < 64 or size % 16:
        raise BadRequest("vaeTileSize", f"vaeTileSize is {size}; use a multiple of 16 from 64 pixels on.")


def _check_filled(problem: Problem) -> None:
    """The explicit count and the explicit axes must agree, and some correct layout must fill the count."""
    intent, axes = problem.intent, explicit_axes(problem)
    ranks = math.prod(axes.values())
    count = intent.gpus_per_replica
    field = "gpusPerReplica" if count is not None else next(iter(axes), "maxGPUsPerReplica")
    if count is None:
        most = intent.max_gpus_per_replica
        if most is not None and ranks > most:
            raise BadRequest(
                field, f"The parallel settings need {ranks} GPUs, above maxGPUsPerReplica {most}."
            )
        if ranks > 1 and ranks not in fillable_counts(problem, (ranks,)):
            raise BadRequest(field, _unfilled(problem, ranks, axes))
        return
    if count not in fillable_counts(problem, (count,)):
        raise BadRequest(field, _unfilled(problem, count, axes))


def _unfilled(problem: Problem, count: int, axes: dict[str, int]) -> str:
    free = problem.intent.model_copy(update={"gpus_per_replica": None})
    relaxed = replace(problem, intent=free, memo={})
    works = fillable_counts(relaxed, range(1, _COUNTS_SHOWN + 1))
    given = ", ".join(f"{axis} {degree}" for axis, degree in axes.items())
    subject = f"No layout of {problem.facts.model.family} uses {count} GPUs"
    under = f" with {given}" if given else ""
    guidance = "guidance on" if problem.guided else "guidance off"
    counts = ", ".join(map(str, works)) or "none"
    return f"{subject}{under} ({guidance}, these shapes); counts up to {_COUNTS_SHOWN} that work: {counts}."
