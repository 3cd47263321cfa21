"""Facts x workload x devices x intent -> the plan, or why there is none. Pure and deterministic.

The story in order: settle the question, plan every GPU count by the mode's rule, choose the count, find
fallbacks, say why. Each step lives in its own module; nothing here reads a clock, a file or a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_runtime.planning.calibrations import UNKNOWN_VERSIONS, Calibration, Versions
from diffusion_runtime.planning.counts import CountDecision, decide_count, most_gpus, replicas_that_fit
from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.documents import Execution, NoPlan, Plan, Workload, plan_hash
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.evaluate import Weighed
from diffusion_runtime.planning.explain import format_bytes
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.fallbacks import choose_fallbacks
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.modes import CountResult
from diffusion_runtime.planning.problem import Problem
from diffusion_runtime.planning.reasons import plan_overrides, plan_reasons, plan_warnings, rejected_documents
from diffusion_runtime.planning.settled import settled
from diffusion_runtime.planning.validate import NoUsableDtype
from diffusion_runtime.planning.wire import execution

__all__ = ["make_plan", "replicas_that_fit"]


def make_plan(
    facts: ModelFacts,
    workload: Workload,
    intent: Intent,
    nodes: Sequence[GpuNode],
    replicas: int = 1,
    *,
    calibrations: Sequence[Calibration] = (),
    versions: Versions = UNKNOWN_VERSIONS,
) -> Plan | NoPlan:
    """Plan one replica for nodes of one GPU product, whose listed GPUs are free.

    `replicas` is how many must fit at once; `versions` is what will run, for comparison with what was
    measured. Raises BadRequest for what can never work, whatever is free.
    """
    if replicas < 0:
        raise BadRequest("replicas", f"replicas is {replicas}; it cannot be negative.")
    device = next((gpu for node in nodes for gpu in node.gpus), None)
    if device is None:
        return NoPlan(reason="InsufficientGPUs", message="No free GPU to plan for.")
    try:
        problem = settled(facts, workload, intent, device, calibrations, versions)
    except NoUsableDtype as refusal:
        return NoPlan(reason="LayoutUnsupported", message=str(refusal))
    refusal_for_count = _too_few_gpus(problem, nodes)
    if refusal_for_count is not None:
        return refusal_for_count
    decision = decide_count(problem, nodes, max(1, replicas))
    if decision.winner is None or decision.winner.chosen is None:
        return _no_plan(problem, decision)
    return _plan(problem, workload, decision, decision.winner, decision.winner.chosen)


def _too_few_gpus(problem: Problem, nodes: Sequence[GpuNode]) -> NoPlan | None:
    """Explicit counts and axes may need more GPUs than any node has free, or whole GPUs where there are
    slices.
    """
    intent, most = problem.intent, most_gpus(nodes)
    axes = (
        intent.cfg or (2 if intent.cfg_parallel else 1),
        intent.ulysses or 1,
        intent.ring or 1,
        intent.tensor or 1,
    )
    needed = intent.gpus_per_replica or axes[0] * axes[1] * axes[2] * axes[3]
    needed = max(needed, 2 if intent.fsdp or intent.text_encoder_tensor else 1)
    if needed > 1 and (problem.device.mig or problem.device.shared):
        kind = "a MIG slice" if problem.device.mig else "shared"
        message = f"The settings need {needed} GPUs per replica, but {problem.device.name} is {kind}: use 1."
        return NoPlan(reason="LayoutUnsupported", message=message)
    if needed <= most:
        return None
    missing = f"no node has more than {most} free: {needed - most} missing"
    message = f"The settings need {needed} GPUs per replica, but {missing}."
    return NoPlan(reason="InsufficientGPUs", message=message)


def _no_plan(problem: Problem, decision: CountDecision) -> NoPlan:
    """Nothing fits: how much is missing for the candidate that came nearest."""
    lost = [weighed for result in decision.results for weighed in result.lost]
    rejected = rejected_documents(decision, None)
    name = f"{problem.facts.model.name} in mode {problem.intent.mode}"
    if not lost:
        why = "the settings leave no layout that this GPU count can use"
        return NoPlan(reason="LayoutUnsupported", message=f"No plan for {name}: {why}.", rejected=rejected)
    nearest = min(lost, key=lambda w: (w.gpu_shortfall, w.host_shortfall, *w.speed_order))
    gpus = f"{nearest.gpus} GPU{'s' if nearest.gpus > 1 else ''}"
    if nearest.gpu_shortfall:
        message = (
            f"{name} does not fit: the smallest candidate ({gpus}) peaks at "
            f"{format_bytes(nearest.peak)} per GPU in the "
            f"{nearest.worst_phase} phase, {format_bytes(nearest.gpu_shortfall)} more than the "
            f"{format_bytes(nearest.slot.usable_bytes)} that may be used."
        )
        shortfall = nearest.gpu_shortfall
        return NoPlan(
            reason="InsufficientMemory", message=message, shortfall_bytes=shortfall, rejected=rejected
        )
    message = (
        f"{name} fits {gpus} only with weights kept on the host, which needs "
        f"{format_bytes(nearest.host)} of "
        f"host memory: {format_bytes(nearest.host_shortfall)} missing."
    )
    shortfall = nearest.host_shortfall
    return NoPlan(
        reason="InsufficientHostMemory", message=message, shortfall_bytes=shortfall, rejected=rejected
    )


def _plan(
    problem: Problem, workload: Workload, decision: CountDecision, winner: CountResult, chosen: Weighed
) -> Plan:
    """The winner as a document, with fallbacks, sentences and hash."""
    document = execution(problem, chosen.choice)
    fallbacks = choose_fallbacks(problem, chosen)
    serving = {
        "shapes": [shape.to_dict() for shape in problem.shapes],
        "guidance": problem.guided,
        "concurrency": workload.concurrency,
        "otherShapes": workload.other_shapes,
    }
    return Plan(
        **{name: getattr(document, name) for name in Execution.model_fields},
        model=problem.facts.model,
        mode=problem.intent.mode,
        bias=problem.intent.bias,
        guidance=problem.guided,
        shapes=problem.shapes,
        concurrency=workload.concurrency,
        other_shapes=workload.other_shapes,
        gpu_product=problem.device.product,
        memory=chosen.memory.forecast(chosen.slot.free_bytes),
        time=chosen.times.forecast(),
        source="formula" if chosen.calibration is None else "calibrated",
        reasons=plan_reasons(problem, decision, winner, chosen),
        warnings=plan_warnings(problem, chosen),
        rejected=rejected_documents(decision, chosen),
        overrides=plan_overrides(problem),
        fallbacks=fallbacks,
        hash=plan_hash(document, problem.facts.model, serving, fallbacks),
    )
