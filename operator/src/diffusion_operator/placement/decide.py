"""One DiffusionDeployment and the ledger -> the decision. Reads top to bottom; everything it uses is pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.inventory.quota import quota_room
from diffusion_operator.inventory.selection import Mount
from diffusion_operator.placement.budget import Budget
from diffusion_operator.placement.decision import CurrentGroup, Decision, GroupDecision, Refusal
from diffusion_operator.placement.facts import built_in_facts, files_bytes
from diffusion_operator.placement.feedback import Experience
from diffusion_operator.placement.groups import Group, Survey, Terms, needed_bytes, survey
from diffusion_operator.placement.handout import Share, hand_out
from diffusion_operator.placement.history import NO_HISTORY, Evidence, History
from diffusion_operator.placement.host_memory import planned_host_bytes
from diffusion_operator.placement.offers import Offer, Offers
from diffusion_operator.placement.pools import with_pools
from diffusion_operator.placement.refusals import (
    no_hardware,
    no_plan,
    quota_exceeded,
    waiting,
    waiting_for,
    waiting_for_host_memory,
    waiting_for_nodes,
)
from diffusion_operator.placement.rollout import choose_rollout, has_spare, keep_running_rollout
from diffusion_operator.placement.strays import with_strays
from diffusion_operator.placement.support import unsupported
from diffusion_operator.placement.wish import (
    intent_hash,
    intent_of,
    pod_traits,
    resource_of,
)
from diffusion_runtime.planning.documents import Plan
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.facts import ModelFacts

NO_TERMS = Terms()


def decide(
    dd: DiffusionDeployment,
    ledger: Ledger,
    *,
    engine_version: str = "",
    current: tuple[CurrentGroup, ...] = (),
    terms: Terms = NO_TERMS,
    history: History = NO_HISTORY,
    evidence: Sequence[Evidence] = (),
    facts: ModelFacts | None = None,
    mounts: tuple[Mount, ...] = (),
) -> Decision:
    """Where the replicas run, and why some do not. Deterministic; never raises for what a user wrote.

    `facts` as a Job of the cluster found them; without, the built-in ones of a known model.
    """
    refusal = unsupported(dd.spec)
    if refusal:
        return Decision(refusal=refusal, history=history)
    known = facts or built_in_facts(dd.spec)
    if isinstance(known, Refusal):
        return Decision(refusal=known, history=history)
    wanted = _wanted(dd)
    intent = intent_hash(dd, engine_version, known.model.revision)
    seen = survey(dd.spec, ledger, dd.key, terms, current, mounts)
    kept = [group for group in current if group.intent == intent]
    seen = with_strays(seen, dd.spec, ledger, dd.key, kept, terms.pools)
    found = with_pools(seen, dd.spec, ledger, dd.key, terms.pools, wanted)
    if not found.groups:
        return Decision(refusal=no_hardware(found), history=history)
    learned = Experience(history, tuple(evidence), intent, engine_version).learned(found.groups, current)
    offers = Offers(dd, known, current, learned, evidence, intent, intent_hash(dd, ""), engine_version)
    budget = Budget(quota_room(ledger.quotas, dd.key, resource_of(dd.spec), pod_traits(dd.spec)))
    try:
        decision = _decision(dd, ledger, found, offers, budget, wanted)
    except BadRequest as error:
        decision = Decision(refusal=Refusal("InvalidSpec", str(error), stalled=True, field=_field(error)))
    return replace(decision, history=offers.history)


def _wanted(dd: DiffusionDeployment) -> int:
    """Pods that should run: none while suspended."""
    return 0 if dd.spec.suspend else dd.spec.replicas


def _decision(
    dd: DiffusionDeployment, ledger: Ledger, found: Survey, offers: Offers, budget: Budget, wanted: int
) -> Decision:
    if not wanted:
        idle = _for_nobody(found, offers)
        if isinstance(idle, Refusal):
            return Decision(refusal=idle)
        return Decision((_group(dd, ledger, found, Share(idle), offers, budget),))
    shares = hand_out(offers, found.groups, wanted, budget)
    if not shares:
        return Decision(refusal=_without_share(dd, found, offers, budget, wanted))
    groups = tuple(_group(dd, ledger, found, share, offers, budget) for share in shares)
    return Decision(groups, _rest(dd, shares, budget, wanted))


def _for_nobody(found: Survey, offers: Offers) -> Offer | Refusal:
    """The plan that is shown, and kept, while no pod is wanted: from free nodes, else from empty ones."""
    kept = offers.kept(found.groups)
    if kept:
        return kept[0]
    for nodes_of in (lambda group: group.free_nodes, Group.empty_nodes):
        offers.blocked.clear()
        made = [offers.new(group, nodes_of(group), 1, None) for group in found.groups]
        offered = [offer for offer in made if offer is not None]
        if offered:
            return min(offered, key=lambda offer: offer.rank)
    return no_plan(offers.blocked)


def _without_share(
    dd: DiffusionDeployment, found: Survey, offers: Offers, budget: Budget, wanted: int
) -> Refusal:
    """Nothing can run now. If the quota, or empty nodes, would help: wait for that."""
    blocked = list(offers.blocked)
    offers.blocked.clear()
    made = [offers.new(group, group.empty_nodes(), wanted, None) for group in found.groups]
    offered = [offer for offer in made if offer is not None]
    if not offered:
        return no_plan(offers.blocked)
    fewest = min(_fewest_gpus(dd, offers, offer) for offer in offered)
    if budget.blocked is not None or (budget.gpus is not None and budget.gpus < fewest):
        if budget.blocked is None:
            budget.refuse()
        assert budget.blocked is not None  # noqa: S101  # set above
        return quota_exceeded(budget.blocked, fewest, wanted, wanted, none_runs=True)
    possible = [offer.group for offer in offered]
    memory = [pair for pair in blocked if pair[0] in possible and pair[1].reason != "InsufficientGPUs"]
    if memory:
        return waiting_for([memory[0][0]], memory[0][1])
    return waiting(possible, fewest, wanted, wanted)


def _fewest_gpus(dd: DiffusionDeployment, offers: Offers, offer: Offer) -> int:
    """The smallest count with a plan: what has to become free, even if empty nodes would give more."""
    explicit = intent_of(dd.spec).gpus_per_replica
    if explicit is not None:
        return explicit
    for gpus in range(1, offer.plan.gpus_per_replica):
        if isinstance(offers.plan(offer.group.empty_nodes(), 1, gpus), Plan):
            return gpus
    return offer.plan.gpus_per_replica


def _rest(dd: DiffusionDeployment, shares: Sequence[Share], budget: Budget, wanted: int) -> Refusal | None:
    """Why not all wanted replicas run now: no room at all is worse than room that is on its way."""
    missing = wanted - sum(share.replicas for share in shares)
    least = min(shares, key=lambda share: share.gpus)
    if missing and budget.blocked is not None:
        return quota_exceeded(budget.blocked, least.gpus, missing, wanted, none_runs=False)
    coming = [share for share in shares if share.future]
    if coming:
        return waiting_for_nodes(coming, missing, wanted)
    if not missing:
        return None
    taken = [
        share.offer.group.after(dd.key, share.offer.plan, share.present, staying=share.offer.kept > 0)
        for share in shares
    ]
    if any(
        c.roomy(needed_bytes(share.offer.plan)) >= share.gpus
        for group, share in zip(taken, shares, strict=True)
        for c in group.candidates
    ):
        need = min(planned_host_bytes(share.offer.plan) for share in shares)
        return waiting_for_host_memory(taken, need, missing, wanted)
    return waiting(taken, least.gpus, missing, wanted)


def _group(
    dd: DiffusionDeployment, ledger: Ledger, found: Survey, share: Share, offers: Offers, budget: Budget
) -> GroupDecision:
    offer, group, plan = share.offer, share.offer.group, share.offer.plan
    old = next((item for item in offers.current if item.name == group.name), None)
    spare = budget.allows(share.gpus) and has_spare(
        ledger,
        dd.key,
        found.resource_name,
        group,
        share.replicas,
        gpus=share.gpus,
        needed_bytes=needed_bytes(plan),
    )
    rollout = keep_running_rollout(dd.spec, old, plan.hash) or choose_rollout(
        dd.spec,
        spare=spare,
        replicas=share.replicas,
        new_gpus=share.gpus,
        old_gpus=old.plan.gpus_per_replica if old else share.gpus,
    )
    return GroupDecision(
        name=group.name,
        product=group.product,
        plan=plan,
        replicas=share.replicas,
        rollout=rollout,
        intent=offer.intent,
        resource_name=found.resource_name,
        node_selector=dict(group.node_selector),
        without_label=group.without_label,
        tolerations=group.tolerations,
        wish=offer.wish,
        engine_image=offer.engine_image,
        rolled_back=offer.rolled_back,
        failed=offer.failed,
        future=share.future,
        downgraded_from=offer.downgraded_from,
        mounts=found.mounts,
        unlabelled=_unlabelled(group) if offer.kept else (),
        files_bytes=files_bytes(offers.facts) if offers.facts.model.source == "path" else 0,
    )


def _unlabelled(group: Group) -> tuple[str, ...]:
    """Nodes whose labels no longer say what they are, on which pods run all the same."""
    lost = [c for c in group.candidates if c.lost_label]
    return tuple(f"{c.capacity.node.name}: {c.down}" for c in lost)


def _field(error: BadRequest) -> str:
    return error.field if error.field.startswith("spec.") else f"spec.{error.field}"
