"""The sentences of a plan: what decided, what the user set, what to beware of, what lost and by how much."""

from __future__ import annotations

from collections.abc import Hashable, Iterable

from diffusion_runtime.planning.calibrations import Calibration
from diffusion_runtime.planning.counts import CountDecision, efficiency
from diffusion_runtime.planning.documents import Rejected
from diffusion_runtime.planning.evaluate import Weighed
from diffusion_runtime.planning.explain import format_bytes, format_seconds
from diffusion_runtime.planning.modes import CountResult
from diffusion_runtime.planning.parity import not_shown
from diffusion_runtime.planning.problem import Problem
from diffusion_runtime.planning.wire import residency_document

MOST_REJECTED = 8
_SPEC_NAMES = {"maxGpusPerReplica": "maxGPUsPerReplica"}


def plan_reasons(
    problem: Problem, decision: CountDecision, winner: CountResult, chosen: Weighed
) -> tuple[str, ...]:
    """Why this plan, in the order in which it was decided."""
    sentences = [_room(chosen), *_ladder_history(problem, winner, chosen), decision.why]
    choice, layout = chosen.choice, chosen.choice.layout
    if layout.cfg == 2:
        sentences.append(
            "CFG parallel: guidance needs two passes per step, and each half of the GPUs runs one."
        )
    if layout.fsdp:
        sentences.append(_sharding(problem, chosen))
    if chosen.calibration is not None:
        sentences.append(_measured(chosen.calibration))
    if choice.tile_size is not None:
        sentences.append(_tiling(problem, winner, chosen))
    if choice.compiled and problem.intent.compile is None:
        sentences.append("Blocks are compiled: the picture stays the same, and steps are faster.")
    return tuple(sentence for sentence in sentences if sentence)


def plan_warnings(problem: Problem, chosen: Weighed) -> tuple[str, ...]:
    """What the user should know before relying on the plan."""
    warnings: list[str] = []
    if chosen.gpu_shortfall:
        warnings.append(
            f"Predicted to be {format_bytes(chosen.gpu_shortfall)} short of GPU memory in the "
            f"{chosen.worst_phase} phase; {problem.intent.mode} does not reject for memory."
        )
    if chosen.host_shortfall:
        warnings.append(f"Predicted to be {format_bytes(chosen.host_shortfall)} short of host memory.")
    if chosen.option.unproven:
        axes = ", ".join(chosen.option.unproven)
        warnings.append(
            f"{axes}: correct, but not proven to be worth it for {problem.facts.model.family}; "
            "measure before relying on it."
        )
    warnings += _claims(problem, chosen)
    warnings += _other_software(problem, chosen)
    if problem.intent.device == "cpu":
        warnings.append(
            f"Arithmetic runs on the CPU in {_dtypes(problem)}; GPUs are only counted, and times are not "
            "predicted for the CPU."
        )
    warnings += _device_warnings(problem)
    for name, dtype in problem.dtype.items():
        if dtype not in problem.facts.correct_dtypes:
            warnings.append(
                f"dtype.{name} is {dtype}, in which {problem.facts.model.family} is not known to be correct."
            )
    return (*warnings, *problem.facts.notes)


def _claims(problem: Problem, chosen: Weighed) -> list[str]:
    """Layouts and residencies that nothing but the family file says to be correct."""
    layout = chosen.option.layout
    used = [axis for axis in ("cfg", "ulysses", "ring", "tensor") if getattr(layout, axis) > 1]
    used += ["fsdp"] if layout.fsdp else []
    used += ["textEncoderTensor"] if layout.text_encoder_tensor else []
    used += sorted({mode for _, mode in chosen.placement if mode != "resident"})
    family = problem.facts.model.family
    claimed = not_shown(family, used)
    if not claimed:
        return []
    names, verb = ", ".join(claimed), "gives" if len(claimed) == 1 else "give"
    return [f"parity not run: only the {family} file says that {names} {verb} the right picture."]


def _other_software(problem: Problem, chosen: Weighed) -> list[str]:
    """A measurement counts although software has changed since, but the plan says so."""
    calibration = chosen.calibration
    differences = calibration.differences(problem.versions) if calibration else ()
    if not differences:
        return []
    return [f"The calibration was made with other software: {', '.join(differences)}."]


def plan_overrides(problem: Problem) -> tuple[str, ...]:
    """Every setting that the user made and the planner therefore did not."""
    document = problem.intent.to_dict()
    planned_around = [
        "gpusPerReplica", "maxGpusPerReplica", "cfg", "ulysses", "ring", "tensor", "fsdp", "cfgParallel",
        "textEncoderTensor", "fsdpBlocksPerUnit", "compile", "attentionBackend", "vaeTileSize",
        "memoryReserveFraction", "memoryReserveBytes",
    ]  # fmt: skip
    settings = [
        f"{_SPEC_NAMES.get(key, key)} = {_word(document[key])}" for key in planned_around if key in document
    ]
    settings += [f"residency.{name} = {mode}" for name, mode in problem.intent.residency.items()]
    settings += [f"dtype.{name} = {dtype}" for name, dtype in problem.intent.dtype.items()]
    return tuple(settings)


def rejected_documents(decision: CountDecision, chosen: Weighed | None) -> tuple[Rejected, ...]:
    """At most eight candidates that lost: other GPU counts first, then what did not fit, then what was
    slower.
    """
    found: list[Rejected] = []
    for result in decision.results:
        if result is not decision.winner and result.chosen is not None and chosen is not None:
            found.append(_other_count(decision, result, result.chosen, chosen))
    lost = [w for result in decision.results for w in result.lost if _relevant(decision, result)]
    short = [w for w in lost if not w.fits]
    if chosen is None:
        short.sort(key=lambda w: (w.gpu_shortfall, w.host_shortfall, *w.speed_order))
    found += [_short(w) for w in _distinct(short, chosen)]
    if chosen is not None:
        slower = sorted((w for w in lost if w.fits), key=lambda w: w.speed_order)
        found += [_not_better(w, chosen) for w in _distinct(slower, chosen)]
    return tuple(found[:MOST_REJECTED])


def _relevant(decision: CountDecision, result: CountResult) -> bool:
    return decision.winner is None or result is decision.winner or result.chosen is None


def _distinct(candidates: Iterable[Weighed], chosen: Weighed | None) -> list[Weighed]:
    """One candidate per layout and residency, the first; the chosen one's own variants are left out."""
    seen: set[Hashable] = {chosen.kind} if chosen is not None else set()
    kept = []
    for candidate in candidates:
        if candidate.kind not in seen:
            seen.add(candidate.kind)
            kept.append(candidate)
    return kept


def _other_count(
    decision: CountDecision, result: CountResult, candidate: Weighed, chosen: Weighed
) -> Rejected:
    slower = candidate.seconds - chosen.seconds
    base = next(r for r in decision.results if r.chosen is not None)
    reason = f"{format_seconds(candidate.seconds)} per request, efficiency {efficiency(base, result):.2f}"
    if slower > 0:
        reason = f"{format_seconds(slower)} slower per request"
    return _rejected(candidate, reason, slower=max(0.0, slower))


def _short(weighed: Weighed) -> Rejected:
    missing = weighed.gpu_shortfall or weighed.host_shortfall
    where = f"per GPU in the {weighed.worst_phase} phase" if weighed.gpu_shortfall else "of host memory"
    return _rejected(weighed, f"needs {format_bytes(missing)} more {where}", shortfall=missing)


def _not_better(weighed: Weighed, chosen: Weighed) -> Rejected:
    slower = weighed.seconds - chosen.seconds
    if slower >= 0:
        return _rejected(weighed, f"{format_seconds(slower)} slower per request", slower=slower)
    return _rejected(
        weighed, f"needs {format_bytes(weighed.peak - chosen.peak)} more per GPU than the chosen plan"
    )


def _rejected(
    weighed: Weighed, reason: str, *, shortfall: int | None = None, slower: float | None = None
) -> Rejected:
    return Rejected(
        layout=weighed.option.layout,
        residency=residency_document(weighed.choice),
        gpus_per_replica=weighed.gpus,
        reason=reason,
        shortfall_bytes=shortfall,
        slower_seconds=None if slower is None else round(slower, 6),
    )


def _room(chosen: Weighed) -> str:
    slot = chosen.slot
    whose = "The GPU has" if chosen.gpus == 1 else "The least-free GPU of a set has"
    return (
        f"{whose} {format_bytes(slot.free_bytes)} free; {format_bytes(slot.usable_bytes)} of it may "
        "be used after "
        f"the reserve. The plan peaks at {format_bytes(chosen.peak)} in the "
        f"{chosen.worst_phase} phase."
    )


def _ladder_history(problem: Problem, winner: CountResult, chosen: Weighed) -> list[str]:
    prefix = problem.intent.mode if problem.intent.bias is None else "bias"
    short = [w for w in winner.lost if not w.fits and w.tile_size == chosen.tile_size]
    if prefix == "auto" and short:
        first = short[0]
        missing = format_bytes(first.gpu_shortfall or first.host_shortfall)
        kind = "host memory" if not first.gpu_shortfall else "per GPU"
        return [f"auto: {winner.how}, because keeping more on the GPU would need {missing} more {kind}."]
    if prefix == "auto":
        return [f"auto: {winner.how} fits."]
    return [winner.how[0].upper() + winner.how[1:] + "."]


def _sharding(problem: Problem, chosen: Weighed) -> str:
    whole = sum(problem.weights[name] for name in problem.names_by_role["transformer"])
    shard = whole // chosen.gpus
    return (
        f"FSDP keeps {format_bytes(shard)} of the transformer's {format_bytes(whole)} on each GPU and "
        "gathers blocks "
        "over the peer link."
    )


def _measured(calibration: Calibration) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in calibration.versions.to_dict().items())
    made_with = f" with {versions}" if versions else ""
    return (
        f"Measured on {calibration.gpu_product}{made_with}: "
        f"{format_bytes(calibration.peak_per_gpu_bytes)} per GPU, "
        f"{format_seconds(calibration.per_request_seconds)} per request of {calibration.shape.steps} steps."
    )


def _tiling(problem: Problem, winner: CountResult, chosen: Weighed) -> str:
    size = chosen.choice.tile_size
    if problem.intent.vae_tile_size is not None:
        return f"The VAE decodes in tiles of {size} pixels, as set."
    for other in winner.lost:
        same = other.kind == chosen.kind and other.resident_blocks == chosen.resident_blocks
        if same and other.tile_size is None:
            return (
                f"The VAE decodes in tiles of {size} pixels: whole it would peak at "
                f"{format_bytes(other.peak)}; tiles "
                f"cost {format_seconds(max(0.0, chosen.seconds - other.seconds))} more."
            )
    return f"The VAE decodes in tiles of {size} pixels."


def _device_warnings(problem: Problem) -> list[str]:
    device = problem.device
    warnings = []
    if not device.known:
        warnings.append(
            f"{device.product} is not in the table: its speed and links are guessed from "
            f"{format_bytes(device.total_bytes)} of memory."
        )
    if device.shared:
        warnings.append(f"{device.product} is shared: other pods may take memory that the plan counts on.")
    return warnings


def _dtypes(problem: Problem) -> str:
    return ", ".join(sorted(set(problem.dtype.values())))


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
