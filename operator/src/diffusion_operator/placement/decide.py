"""One DiffusionDeployment and the ledger -> the decision. Reads top to bottom; everything it uses is pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.ledger import Ledger, pack
from diffusion_operator.placement.decision import CurrentGroup, Decision, GroupDecision, Refusal
from diffusion_operator.placement.groups import Group, Survey, survey
from diffusion_operator.placement.refusals import no_hardware, no_plan, waiting, waiting_for
from diffusion_operator.placement.rollout import choose_rollout, has_spare, keep_running_rollout
from diffusion_operator.placement.support import unsupported
from diffusion_operator.placement.wish import intent_hash, intent_of, model_field, model_id, workload_of
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.devices import GpuNode
from diffusion_runtime.planning.documents import NoPlan, Plan
from diffusion_runtime.planning.errors import BadRequest, UnknownModel
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.search import make_plan


@dataclass(frozen=True)
class _Offer:
    """A plan for one group, and how many of the wanted replicas its free GPUs hold now."""

    group: Group
    plan: Plan
    fits: int


def decide(
    dd: DiffusionDeployment,
    ledger: Ledger,
    *,
    engine_version: str = "",
    current: tuple[CurrentGroup, ...] = (),
) -> Decision:
    """Where the replicas run, and why some do not. Deterministic; never raises for what a user wrote."""
    refusal = unsupported(dd.spec)
    if refusal:
        return Decision(refusal=refusal)
    try:
        facts = facts_for(model_id(dd.spec))
    except UnknownModel as error:
        return Decision(refusal=Refusal("UnknownModel", str(error), stalled=True, field=model_field(dd.spec)))
    found = survey(dd.spec, ledger, dd.key)
    if not found.groups:
        return Decision(refusal=no_hardware(found))
    intent = intent_hash(dd, engine_version)
    try:
        offer = _kept(dd, found, current, intent) or _best(dd, facts, found)
    except BadRequest as error:
        return Decision(refusal=Refusal("InvalidSpec", str(error), stalled=True, field=_field(error)))
    if isinstance(offer, Refusal):
        return Decision(refusal=offer)
    return _decision(dd, ledger, found, offer, current, intent)


def _wanted(dd: DiffusionDeployment) -> int:
    """Pods that should run: none while suspended."""
    return 0 if dd.spec.suspend else dd.spec.replicas


def _kept(
    dd: DiffusionDeployment, found: Survey, current: tuple[CurrentGroup, ...], intent: str
) -> _Offer | None:
    """The plan that exists, if it was made for the same wish and at least one replica still fits."""
    wanted = _wanted(dd)
    for group in found.groups:
        for old in current:
            same = (
                old.intent == intent
                and old.name == group.name
                and old.plan.gpu_product in (None, group.product)
            )
            if not same:
                continue
            fits = _still_fits(group, old.plan, wanted)
            # Without wanted pods nothing can fit; then the memory alone decides whether the plan is kept.
            if fits or (not wanted and _memory_suffices(old.plan, group)):
                return _Offer(group, old.plan, fits)
    return None


def _needed_bytes(plan: Plan) -> int:
    """What each GPU must have free: the peak, or what the plan was made for when it knew of a shortfall."""
    return min(plan.memory.peak_per_gpu_bytes, plan.memory.free_per_gpu_bytes)


def _memory_suffices(plan: Plan, group: Group) -> bool:
    """Whether any node of the group gives a new pod what the plan needs."""
    return any(candidate.free_bytes >= _needed_bytes(plan) for candidate in group.candidates)


def _best(dd: DiffusionDeployment, facts: ModelFacts, found: Survey) -> _Offer | Refusal:
    """The best offer over all groups from what is free now; else why there is none."""
    wanted = _wanted(dd)
    offers: list[_Offer] = []
    blocked: list[tuple[Group, NoPlan]] = []
    for group in found.groups:
        answer = _plan(dd, facts, group.free_nodes, wanted)
        if isinstance(answer, Plan):
            fits = _fits(group, answer, wanted)
            if fits or not wanted:
                offers.append(_Offer(group, answer, fits))
        elif answer is not None:
            blocked.append((group, answer))
    if offers:
        return min(offers, key=_rank)
    return _without_offer(dd, facts, found, blocked)


def _without_offer(
    dd: DiffusionDeployment, facts: ModelFacts, found: Survey, blocked: list[tuple[Group, NoPlan]]
) -> _Offer | Refusal:
    """Nothing fits what is free. If empty nodes would help: wait, or show that plan if no pod is wanted."""
    wanted = _wanted(dd)
    offers: list[_Offer] = []
    hopeless: list[tuple[Group, NoPlan]] = []
    for group in found.groups:
        answer = _plan(dd, facts, group.empty_nodes(), wanted)
        if isinstance(answer, Plan):
            offers.append(_Offer(group, answer, 0))
        elif answer is not None:
            hopeless.append((group, answer))
    if not offers:
        return no_plan(hopeless)
    best = min(offers, key=_rank)
    if not wanted:
        return best
    possible = [offer.group for offer in offers]
    memory = [pair for pair in blocked if pair[0] in possible and pair[1].reason != "InsufficientGPUs"]
    if memory:
        return waiting_for([memory[0][0]], memory[0][1])
    fewest = min(_fewest_gpus(dd, facts, offer) for offer in offers)
    return waiting(possible, fewest, wanted, wanted)


def _fewest_gpus(dd: DiffusionDeployment, facts: ModelFacts, offer: _Offer) -> int:
    """The smallest count with a plan: what has to become free, even if empty nodes would give more."""
    intent = intent_of(dd.spec)
    if intent.gpus_per_replica is not None:
        return intent.gpus_per_replica
    for gpus in range(1, offer.plan.gpus_per_replica):
        bounded = intent.model_copy(update={"max_gpus_per_replica": gpus})
        nodes = offer.group.empty_nodes()
        if isinstance(make_plan(facts, workload_of(dd.spec, facts), bounded, nodes, 1), Plan):
            return gpus
    return offer.plan.gpus_per_replica


def _plan(
    dd: DiffusionDeployment, facts: ModelFacts, nodes: tuple[GpuNode, ...], wanted: int
) -> Plan | NoPlan | None:
    """The planner's answer; None when there is no node to plan for."""
    if not nodes:
        return None

    def ask(some: Sequence[GpuNode]) -> Plan | NoPlan:
        return make_plan(facts, workload_of(dd.spec, facts), intent_of(dd.spec), some, max(1, wanted))

    answer = ask(nodes)
    return answer if isinstance(answer, Plan) else _without_busiest(ask, nodes) or answer


def _without_busiest(
    ask: Callable[[Sequence[GpuNode]], Plan | NoPlan], nodes: tuple[GpuNode, ...]
) -> Plan | None:
    """The plan that uses most nodes when those with the least free memory are left out.

    The planner counts for the worst replica, so one busy node could otherwise keep all replicas from running.
    """
    levels = sorted({node.gpus[0].free_bytes for node in nodes})
    low, high, best = 1, len(levels) - 1, None
    while low <= high:
        middle = (low + high) // 2
        answer = ask([node for node in nodes if node.gpus[0].free_bytes >= levels[middle]])
        if isinstance(answer, Plan):
            best, high = answer, middle - 1
        else:
            low = middle + 1
    return best


def _rank(offer: _Offer) -> tuple[int, float, str, str]:
    """Most replicas first, then least GPU-seconds per request, then the name."""
    seconds = offer.plan.gpus_per_replica * offer.plan.time.per_request_seconds
    return (-offer.fits, seconds, offer.group.name, offer.group.product)


def _fits(group: Group, plan: Plan, wanted: int) -> int:
    """How many of the wanted replicas find GPUs with enough memory."""
    needed = _needed_bytes(plan)
    free = {c.capacity.node.name: c.roomy(needed) for c in group.candidates}
    return len(pack(free, plan.gpus_per_replica, wanted))


def _still_fits(group: Group, plan: Plan, wanted: int) -> int:
    """How many of the wanted replicas run already or find GPUs with enough memory."""
    needed = _needed_bytes(plan)
    free = {c.capacity.node.name: c.keeping(needed) for c in group.candidates}
    return len(pack(free, plan.gpus_per_replica, wanted))


def _decision(
    dd: DiffusionDeployment,
    ledger: Ledger,
    found: Survey,
    offer: _Offer,
    current: tuple[CurrentGroup, ...],
    intent: str,
) -> Decision:
    group, plan, wanted = offer.group, offer.plan, _wanted(dd)
    old = next((item for item in current if item.name == group.name), None)
    rollout = keep_running_rollout(old, plan.hash) or choose_rollout(
        dd.spec,
        spare=has_spare(
            ledger, dd.key, found.resource_name, _roomy(group, plan), offer.fits, plan.gpus_per_replica
        ),
        replicas=offer.fits,
        new_gpus=plan.gpus_per_replica,
        old_gpus=old.plan.gpus_per_replica if old else plan.gpus_per_replica,
    )
    chosen = GroupDecision(
        name=group.name,
        product=group.product,
        plan=plan,
        replicas=offer.fits,
        rollout=rollout,
        intent=intent,
        resource_name=found.resource_name,
        node_selector=dict(group.node_selector),
        without_label=group.without_label,
    )
    missing = wanted - offer.fits
    taken = group.after(dd.key, plan.gpus_per_replica, offer.fits)
    refusal = waiting([taken], plan.gpus_per_replica, missing, wanted) if missing else None
    return Decision((chosen,), refusal)


def _roomy(group: Group, plan: Plan) -> Group:
    """The group without the nodes on which a new pod could get a GPU with too little free memory."""
    needed = _needed_bytes(plan)
    return replace(group, candidates=tuple(c for c in group.candidates if c.free_bytes >= needed))


def _field(error: BadRequest) -> str:
    return error.field if error.field.startswith("spec.") else f"spec.{error.field}"
