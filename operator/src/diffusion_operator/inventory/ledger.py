"""The capacity ledger: which GPUs are free on which node, and who holds the others.

Free GPUs = allocatable - requests of non-terminal bound pods - reservations. Their free bytes come from the
node agent where it reports, else from labels. A reservation stands for a replica
of a managed Deployment without a bound pod. Everything is rebuilt from nodes, pods and Deployments, never
remembered. The scheduler stays the final judge; the ledger only keeps two decisions from counting on one
GPU.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from diffusion_operator.inventory.gpu_nodes import (
    HOST_EXACT_TO_BYTES,
    GpuNodeReport,
    MeasuredRoom,
    measured_room,
    trusted_reports,
)
from diffusion_operator.inventory.matching import unfit
from diffusion_operator.inventory.objects import ManagedDeployment, Node, Pod
from diffusion_operator.inventory.selection import NodeSelection

ANY = NodeSelection()


@dataclass(frozen=True, slots=True)
class Claim:
    """GPUs of one resource that one pod holds or a replica will need. `owner` is None for foreign pods."""

    holder: str
    owner: str | None
    node: str
    resource_name: str
    gpus: int
    memory_bytes: int = 0
    group: str | None = None
    reserved: bool = False
    top_up: bool = False


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """One node as one owner sees it. `holders` are (name, GPUs), most first, without the owner itself.

    `room` is what the node agent measured, None where no report counts.
    """

    node: Node
    total: int
    free: int
    host_free_bytes: int
    holders: tuple[tuple[str, int], ...] = ()
    room: MeasuredRoom | None = None


@dataclass(frozen=True)
class Ledger:
    """Nodes by name, the claims on each, and the node agents' reports that count. Immutable."""

    nodes: tuple[Node, ...]
    claims: Mapping[str, tuple[Claim, ...]] = field(default_factory=dict)
    reports: Mapping[str, GpuNodeReport] = field(default_factory=dict)
    memo: dict[Hashable, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was worked out from this view and holds for every owner; a batch of decisions shares it."""

    def capacity(self, owner: str | None, resource_name: str) -> tuple[NodeCapacity, ...]:
        """Every node that has the resource, usable or not. What `owner` holds or reserves counts as free.

        Nodes without a claim of the owner are the same objects for everybody.
        """
        key = ("capacity", resource_name)
        views: tuple[NodeCapacity, ...] | None = self.memo.get(key)
        if views is None:
            having = (node for node in self.nodes if node.extended.get(resource_name))
            views = self.memo[key] = tuple(self._view(node, None, resource_name) for node in having)
        own = self._nodes_by_owner.get(owner) if owner is not None else None
        if not own:
            return views
        return tuple(
            self._view(view.node, owner, resource_name) if view.node.name in own else view for view in views
        )

    @cached_property
    def _nodes_by_owner(self) -> Mapping[str, frozenset[str]]:
        """Names of the nodes on which an owner has claims."""
        found: dict[str, set[str]] = {}
        for name, claims in self.claims.items():
            for claim in claims:
                if claim.owner is not None:
                    found.setdefault(claim.owner, set()).add(name)
        return {owner: frozenset(names) for owner, names in found.items()}

    def free_nodes(
        self, owner: str | None, resource_name: str, selection: NodeSelection = ANY
    ) -> tuple[NodeCapacity, ...]:
        """Nodes that a pod with `selection` may use now and that have at least one GPU free for `owner`."""
        return tuple(
            view
            for view in self.capacity(owner, resource_name)
            if view.free > 0 and unfit(view.node, selection) is None
        )

    def held(self, owner: str, resource_name: str, group: str | None = None) -> tuple[Claim, ...]:
        """Claims of one owner, optionally of one group only, without the top-ups."""
        return tuple(
            claim
            for name in sorted(self._nodes_by_owner.get(owner, ()))
            for claim in self.claims.get(name, ())
            if claim.owner == owner
            and claim.resource_name == resource_name
            and not claim.top_up
            and group in (None, claim.group)
        )

    def _view(self, node: Node, owner: str | None, resource_name: str) -> NodeCapacity:
        total, gpus, memory, own_memory = node.extended.get(resource_name, 0), 0, 0, 0
        holders: dict[str, int] = {}
        for claim in self.claims.get(node.name, ()):
            if owner is not None and claim.owner == owner:
                own_memory += 0 if claim.reserved else claim.memory_bytes
                continue
            memory += claim.memory_bytes
            if claim.resource_name == resource_name and claim.gpus:
                gpus += claim.gpus
                name = claim.owner or claim.holder
                holders[name] = holders.get(name, 0) + claim.gpus
        ranked = tuple(sorted(holders.items(), key=lambda item: (-item[1], item[0])))
        host = self._host_free_bytes(node, memory, own_memory)
        room = self._room(node.name, owner)
        return NodeCapacity(node, total, max(0, total - gpus), host, ranked, room)

    def _host_free_bytes(self, node: Node, taken_bytes: int, own_bytes: int) -> int:
        """By requests; by measurement where it says less. What own pods asked for counts as free again."""
        requested = max(0, node.memory_bytes - taken_bytes)
        report = self.reports.get(node.name)
        if report is None or report.host_free_bytes is None:
            return requested
        measured = report.host_free_bytes + own_bytes
        return min(requested, measured - measured % HOST_EXACT_TO_BYTES)

    def _room(self, node_name: str, owner: str | None) -> MeasuredRoom | None:
        report = self.reports.get(node_name)
        if report is None:
            return None
        # The kubelet tells the pods of a GPU by whatever resource they asked for it, so all pods count here.
        bound = [claim for claim in self.claims.get(node_name, ()) if not claim.reserved]
        holding = {claim.holder for claim in bound}
        own = {claim.holder for claim in bound if owner is not None and claim.owner == owner}
        return measured_room(report, own, holding)


def build_ledger(
    nodes: Iterable[Node],
    pods: Iterable[Pod],
    deployments: Iterable[ManagedDeployment],
    reports: Iterable[GpuNodeReport] = (),
) -> Ledger:
    """Claims of all bound pods, then reservations of all Deployments in the order of their names.

    `reports` are all GPUNodes; those whose agent is not Ready are left out here.
    """
    pods = tuple(pods)
    ordered = tuple(sorted(nodes, key=lambda node: node.name))
    claims: dict[str, list[Claim]] = {node.name: [] for node in ordered}
    alive = [pod for pod in pods if not pod.terminal and pod.node in claims]
    for pod in sorted(alive, key=lambda pod: (pod.namespace, pod.name)):
        claims[pod.node or ""].extend(_pod_claims(pod))
    for deployment in sorted(deployments, key=lambda item: (item.owner, item.name)):
        _reserve(ordered, claims, deployment, alive)
    kept = {name: tuple(found) for name, found in claims.items() if found}
    return Ledger(ordered, kept, trusted_reports(reports, pods))


def with_reports(ledger: Ledger, reports: Mapping[str, GpuNodeReport]) -> Ledger:
    """The same nodes and claims with other reports, all of which count; what was worked out is dropped."""
    return Ledger(ledger.nodes, ledger.claims, dict(reports))


def pack(free: Mapping[str, int], gpus: int, count: int) -> list[str]:
    """Node names for up to `count` pods of `gpus` GPUs: the fullest node that still fits first, ties by name.

    `free` is GPUs per node. Fewer names than asked for means that the rest does not fit.
    """
    left = dict(free)
    chosen: list[str] = []
    while len(chosen) < count:
        fitting = [(amount, name) for name, amount in left.items() if amount >= gpus]
        if not fitting or gpus < 1:
            break
        _, name = min(fitting)
        # The fullest node stays the fullest until it is full, so all its places are taken at once.
        places = min(left[name] // gpus, count - len(chosen))
        left[name] -= places * gpus
        chosen += [name] * places
    return chosen


def _pod_claims(pod: Pod) -> list[Claim]:
    holder = f"{pod.namespace}/{pod.name}"
    resources = pod.extended or {"": 0}
    claims = []
    for index, (resource, amount) in enumerate(sorted(resources.items())):
        memory = pod.memory_bytes if index == 0 else 0
        claims.append(Claim(holder, pod.owner, pod.node or "", resource, amount, memory, pod.group))
    return claims


def _reserve(
    nodes: tuple[Node, ...], claims: dict[str, list[Claim]], deployment: ManagedDeployment, alive: list[Pod]
) -> None:
    """Add claims for replicas without a bound pod, and for what successors of smaller pods need more."""
    own = [
        pod
        for pod in alive
        if pod.owner == deployment.owner and pod.group == deployment.group and not pod.terminating
    ]
    usable = [node for node in nodes if unfit(node, deployment.selection) is None]
    resource, gpus = deployment.resource_name, deployment.gpus_per_pod
    free = {node.name: _free(node, claims[node.name], resource) for node in usable}
    if deployment.replicas:
        for pod in own:
            more = gpus - pod.extended.get(resource, 0)
            if pod.plan_hash != deployment.plan_hash and 0 < more <= free.get(pod.node or "", 0):
                free[pod.node or ""] -= more
                claims[pod.node or ""].append(_reservation(deployment, pod.node or "", more, 0, top_up=True))
    missing = max(0, deployment.replicas - len(own))
    for name in pack(free, gpus, missing):
        claims[name].append(_reservation(deployment, name, gpus, deployment.memory_bytes_per_pod))


def _reservation(
    deployment: ManagedDeployment, node: str, gpus: int, memory_bytes: int, *, top_up: bool = False
) -> Claim:
    return Claim(
        holder=deployment.owner,
        owner=deployment.owner,
        node=node,
        resource_name=deployment.resource_name,
        gpus=gpus,
        memory_bytes=memory_bytes,
        group=deployment.group,
        reserved=True,
        top_up=top_up,
    )


def _free(node: Node, claims: Iterable[Claim], resource_name: str) -> int:
    used = sum(claim.gpus for claim in claims if claim.resource_name == resource_name)
    return max(0, node.extended.get(resource_name, 0) - used)
