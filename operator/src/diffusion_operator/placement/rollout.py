"""How a group replaces its pods: a strategy that neither deadlocks nor stops more than it must."""

from __future__ import annotations

from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.inventory.claims import places
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.placement.decision import CurrentGroup, Rollout
from diffusion_operator.placement.groups import Group

SURGE = Rollout("RollingUpdate", max_surge=1, max_unavailable=0)
RECREATE = Rollout("Recreate")
KINDS = {
    "auto": ("RollingUpdate", "Recreate"),
    "rollingUpdate": ("RollingUpdate",),
    "recreate": ("Recreate",),
}
"""The strategies of a Deployment that each `spec.rollout.strategy` allows."""


def choose_rollout(
    spec: DiffusionDeploymentSpec, *, spare: bool, replicas: int, new_gpus: int, old_gpus: int
) -> Rollout:
    """Spare GPUs: a new pod first. Else old pods make room, as many as one new pod needs.

    A single replica without spare GPUs is stopped first: its successor would otherwise sit unscheduled
    while the old pod drains, and look like a pod that nobody can place.
    """
    strategy = _wished(spec)
    if strategy == "recreate":
        return RECREATE
    if spare or replicas == 0:
        return SURGE
    if replicas == 1 and strategy == "auto":
        return RECREATE
    needed = -(-new_gpus // max(1, old_gpus))
    return Rollout("RollingUpdate", max_surge=0, max_unavailable=min(needed, replicas))


def has_spare(
    ledger: Ledger,
    owner: str,
    resource: str,
    group: Group,
    replicas: int,
    *,
    gpus: int,
    needed_bytes: int,
) -> bool:
    """Whether one more pod fits beside `replicas` pods, each GPU of it with so many bytes free.

    The answer is the same before and after they are created.

    A pod of ours beyond `replicas` is a surge pod that already runs, so it proves the room that it stands
    on.
    """
    claims = ledger.held(owner, resource, group.name)
    held = len(claims)
    if held > replicas and sum(claim.gpus for claim in claims) >= (replicas + 1) * gpus:
        return True
    own = ledger.nodes_of(owner)
    free = (
        ledger.free_on(name, resource) if (name := c.capacity.node.name) in own else c.capacity.free
        for c in group.candidates
        if not c.down and c.free_bytes >= needed_bytes
    )
    more = max(0, replicas - held) + 1
    return places(free, gpus, more) >= more


def keep_running_rollout(
    spec: DiffusionDeploymentSpec, current: CurrentGroup | None, plan_hash: str
) -> Rollout | None:
    """The strategy of a roll-out that is under way stays as it is until all pods follow the plan.

    Two things end that: the user names another strategy, and a new pod that is stuck. The GPUs or the quota
    that it counted on may be somebody else's by then, and it would wait for them for ever.
    """
    if current is None or current.rollout is None or current.settled or current.plan.hash != plan_hash:
        return None
    allowed = current.rollout.kind in KINDS[_wished(spec)]
    return current.rollout if allowed and not current.stuck else None


def _wished(spec: DiffusionDeploymentSpec) -> str:
    return (spec.rollout.strategy if spec.rollout else None) or "auto"
