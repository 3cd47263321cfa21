"""Adds to a survey the nodes that pools may still bring, less what other deployments wait for.

A pool with labels is a group of its own, pinned by them; a pool without any extends the group of its product.
"""

from __future__ import annotations

from dataclasses import replace

from diffusion_operator.api.names import group_slug
from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.inventory.claims import NodeCapacity, pack
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.inventory.matching import unfit
from diffusion_operator.inventory.pools import NodePool
from diffusion_operator.placement.groups import Candidate, Group, Survey, excluded, pool_group_name
from diffusion_operator.placement.wish import selection_of


def with_pools(
    found: Survey,
    spec: DiffusionDeploymentSpec,
    ledger: Ledger,
    owner: str,
    pools: tuple[NodePool, ...],
    wanted: int,
) -> Survey:
    """The survey with at most one future node for each replica that could need one.

    GPUs of a node that has joined but does not offer them yet still count as future.
    """
    groups = list(found.groups)
    for pool in pools:
        if excluded(pool.device, pool.product, spec) or not _allowed(pool, spec, found):
            continue
        index = next((i for i, group in enumerate(groups) if _is_of(group, pool)), None)
        present = len(groups[index].candidates) if index is not None else 0
        name = groups[index].name if index is not None else _name(pool)
        coming = _candidates(pool, found.resource_name, ledger, owner, name, pool.max_nodes - present, wanted)
        if not coming:
            continue
        if index is None:
            groups.append(_new_group(pool, name, coming, found.resource_name))
        else:
            old = groups[index]
            groups[index] = replace(
                old, candidates=(*old.candidates, *coming), pool=pool.name, tolerations=pool.tolerations
            )
    return replace(found, groups=tuple(sorted(groups, key=lambda group: (group.name, group.product))))


def _is_of(group: Group, pool: NodePool) -> bool:
    if pool.labels:
        return group.pool == pool.name
    return group.pool is None and group.product == pool.product


def _name(pool: NodePool) -> str:
    return pool_group_name(pool) if pool.labels else group_slug(pool.device.name)


def _new_group(pool: NodePool, name: str, coming: tuple[Candidate, ...], resource: str) -> Group:
    return Group(
        name, pool.product, coming, pool.selector(resource), tolerations=pool.tolerations, pool=pool.name
    )


def _allowed(pool: NodePool, spec: DiffusionDeploymentSpec, found: Survey) -> bool:
    """Whether a pod of this spec may run on a node of the pool; the pool's own taints are tolerated."""
    selection = replace(selection_of(spec), mounts=found.mounts)
    tolerant = replace(selection, tolerations=(*selection.tolerations, *pool.tolerations))
    return unfit(pool.future_node(1, found.resource_name), tolerant) is None


def _candidates(
    pool: NodePool, resource: str, ledger: Ledger, owner: str, group: str, room: int, wanted: int
) -> tuple[Candidate, ...]:
    """Future nodes with what is left on each after the replicas of others that wait for the same group."""
    others = [
        c for c in ledger.unplaced if c.owner != owner and c.group == group and c.resource_name == resource
    ]
    count = min(room, len(others) + max(1, wanted))
    names = [pool.future_node(number, resource) for number in range(1, count + 1)]
    left = {node.name: pool.gpus_per_node for node in names}
    for claim in sorted(others, key=lambda claim: (-claim.gpus, claim.holder)):
        for name in pack(left, claim.gpus, 1):
            left[name] -= claim.gpus
    down = f"not there yet: pool {pool.name} may grow to {pool.max_nodes} nodes"
    return tuple(
        Candidate(NodeCapacity(node, pool.gpus_per_node, left[node.name], 0), pool.device, down, future=True)
        for node in names
    )
