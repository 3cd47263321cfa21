"""Nodes that no longer say what they are, or take no new pods, while pods of a plan that holds run on them.

A scheduler never moves a pod because a label vanished or a taint came, so neither does a decision: the node
stays in the group of its pods, for these pods alone. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.inventory.claims import NodeCapacity
from diffusion_operator.inventory.hardware import gpu_labels
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.inventory.matching import unfit
from diffusion_operator.inventory.pools import NodePool
from diffusion_operator.placement.alike import labelled_device
from diffusion_operator.placement.decision import CurrentGroup
from diffusion_operator.placement.groups import Candidate, Group, Survey, pool_group_name
from diffusion_operator.placement.wish import selection_of


def with_strays(
    found: Survey,
    spec: DiffusionDeploymentSpec,
    ledger: Ledger,
    owner: str,
    kept: Iterable[CurrentGroup],
    pools: tuple[NodePool, ...],
) -> Survey:
    """The survey with every such node in the group of its pods.

    `kept` are groups whose plan the wish still asks for. For another wish such a node is no hardware at all,
    as for everybody else.
    """
    for old in kept:
        product = old.plan.gpu_product
        if product is None:
            continue
        home = next((g for g in found.groups if g.name == old.name and g.product == product), None)
        known = home.position if home else {}
        held = ledger.held(owner, found.resource_name, old.name)
        names = {claim.node for claim in held if claim.plan_hash == old.plan.hash and claim.node not in known}
        strays = [
            stray
            for view in (ledger.own_capacity(owner, found.resource_name) if names else ())
            if view.node.name in names and (stray := _stray(view, spec, found, product)) is not None
        ]
        if strays:
            found = _moved(found, home or _group_of(old, product, found.resource_name, pools), strays)
    return found


def _stray(
    view: NodeCapacity, spec: DiffusionDeploymentSpec, found: Survey, product: str
) -> Candidate | None:
    """None where the node is out for another reason, such as labels that the user asked for."""
    problem = unfit(view.node, replace(selection_of(spec), mounts=found.mounts))
    if problem is not None and problem.kind not in ("down", "taint"):
        return None
    labels = gpu_labels(view.node, found.resource_name)
    device = labelled_device(product, labels.memory_bytes, labels.shared)
    if device is None:
        return None
    lost = labels.product != product
    label = f"{found.resource_name}.product"
    now = f"says {labels.product}" if labels.product else "is gone"
    down = f"its label {label} {now}" if lost else problem.text if problem else "not for new pods"
    return Candidate(view, device, down, lost_label=lost)


def _moved(found: Survey, home: Group, strays: list[Candidate]) -> Survey:
    """The strays belong to `home` and to no other group."""
    names = {stray.capacity.node.name for stray in strays}
    groups = [replace(home, candidates=(*home.candidates, *strays))]
    for group in found.groups:
        if (group.name, group.product) == (home.name, home.product):
            continue
        left = tuple(c for c in group.candidates if c.capacity.node.name not in names)
        groups += [replace(group, candidates=left)] if left else []
    left_out = tuple(entry for entry in found.left_out if entry[0].name not in names)
    ordered = sorted(groups, key=lambda group: (group.name, group.product))
    return replace(found, groups=tuple(ordered), left_out=left_out)


def _group_of(old: CurrentGroup, product: str, resource: str, pools: tuple[NodePool, ...]) -> Group:
    """The group as its labelled nodes made it, so that the template of its pods stays the same."""
    pool = next((pool for pool in pools if pool.labels and pool_group_name(pool) == old.name), None)
    if pool is None:
        return Group(old.name, product, (), {f"{resource}.product": product})
    return Group(old.name, product, (), pool.selector(resource), None, pool.tolerations, pool.name)
