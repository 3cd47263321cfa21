"""Makes the capacity ledger of nodes, pods and Deployments, and mends one after a part of them changed.

A whole build is exact; a mended ledger leaves the reservations that did not change where they are, and costs
little beside it. When to do which is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from diffusion_operator.inventory.claims import Claim
from diffusion_operator.inventory.gpu_nodes import GpuNodeReport, trusted_reports
from diffusion_operator.inventory.ledger import Ledger, of_nodes_alone
from diffusion_operator.inventory.objects import ManagedDeployment, Node, Pod
from diffusion_operator.inventory.quota import Quota, quota_uses
from diffusion_operator.inventory.reservations import Room, reserve

Owned = tuple[Sequence[Pod], Sequence[ManagedDeployment]]
"""What one owner has: its pods and its Deployments."""


def build_ledger(
    nodes: Iterable[Node],
    pods: Iterable[Pod],
    deployments: Iterable[ManagedDeployment],
    quotas: Iterable[Quota] = (),
    reports: Iterable[GpuNodeReport] = (),
) -> Ledger:
    """Claims of all bound pods, then reservations of all Deployments in the order of their names.

    `reports` are all GPUNodes; those whose agent is not Ready are left out here.
    """
    ordered = tuple(sorted(nodes, key=lambda node: node.name))
    every_pod = list(pods)
    managed = sorted(deployments, key=lambda item: (item.owner, item.name))
    claims: dict[str, list[Claim]] = {node.name: [] for node in ordered}
    alive = [pod for pod in every_pod if not pod.terminal and pod.node in claims]
    for pod in sorted(alive, key=lambda pod: (pod.namespace, pod.name)):
        claims[pod.node or ""].extend(_pod_claims(pod))
    own: dict[tuple[str, str | None], list[Pod]] = {}
    for pod in alive:
        if pod.owner is not None:
            own.setdefault((pod.owner, pod.group), []).append(pod)
    empty = Ledger(ordered)
    room = Room(empty, claims)
    unplaced: list[Claim] = []
    for deployment in managed:
        mine = own.get((deployment.owner, deployment.group), [])
        unplaced += reserve(room, deployment, mine)
    return Ledger(
        ordered,
        {name: tuple(found) for name, found in claims.items() if found},
        tuple(unplaced),
        quota_uses(quotas, every_pod, managed),
        trusted_reports(reports, every_pod),
        {key: value for key, value in empty.memo.items() if of_nodes_alone(key)},
    )


def with_owners(ledger: Ledger, owners: Mapping[str, Owned]) -> Ledger:
    """The ledger after only these owners' pods and Deployments changed; costs little beside a new build.

    Their reservations are packed around everybody else's, which stay where they are.
    """
    touched = {name for owner in owners for name in ledger.nodes_of(owner)}
    claims = {
        name: [claim for claim in ledger.claims.get(name, ()) if claim.owner not in owners]
        for name in touched
    }
    alive = {
        owner: [pod for pod in pods if not pod.terminal and pod.node in ledger.by_name]
        for owner, (pods, _) in owners.items()
    }
    every_pod = [pod for pods in alive.values() for pod in pods]
    for pod in sorted(every_pod, key=lambda pod: (pod.namespace, pod.name)):
        node = pod.node or ""
        if node not in claims:
            claims[node] = list(ledger.claims.get(node, ()))
        claims[node].extend(_pod_claims(pod))
    room = Room(ledger, claims)
    unplaced = [claim for claim in ledger.unplaced if claim.owner not in owners]
    for owner, (_, deployments) in sorted(owners.items()):
        for deployment in sorted(deployments, key=lambda item: item.name):
            own = [pod for pod in alive[owner] if pod.group == deployment.group]
            unplaced += reserve(room, deployment, own)
    nodes: dict[str, set[str]] = {owner: set() for owner in owners}
    for name, found in claims.items():
        for claim in found:
            if claim.owner in nodes:
                nodes[claim.owner].add(name)
    new = ledger.changed(
        {name: tuple(found) for name, found in claims.items()},
        {owner: frozenset(names) for owner, names in nodes.items()},
    )
    return replace(new, unplaced=tuple(unplaced))


def with_foreign(ledger: Ledger, node: str, pods: Iterable[Pod]) -> Ledger:
    """The ledger after only the foreign pods of one node changed."""
    kept = tuple(claim for claim in ledger.claims.get(node, ()) if claim.owner is not None)
    found = [claim for pod in pods if not pod.terminal for claim in _pod_claims(pod)]
    return ledger.changed({node: (*found, *kept)})


def with_reports(ledger: Ledger, reports: Mapping[str, GpuNodeReport]) -> Ledger:
    """The same nodes and claims with other reports, all of which count."""
    known = ledger.reports
    moved = {name for name in known.keys() | reports.keys() if known.get(name) != reports.get(name)}
    if not moved:
        return ledger
    new = replace(ledger, reports=dict(reports))
    return new.changed({name: ledger.claims.get(name, ()) for name in moved})


def _pod_claims(pod: Pod) -> list[Claim]:
    holder = f"{pod.namespace}/{pod.name}"
    resources = pod.extended or {"": 0}
    claims = []
    for index, (resource, amount) in enumerate(sorted(resources.items())):
        memory = pod.memory_bytes if index == 0 else 0
        claim = Claim(holder, pod.owner, pod.node or "", resource, amount, memory, pod.group)
        claims.append(claim if pod.terminating else replace(claim, plan_hash=pod.plan_hash))
    return claims
