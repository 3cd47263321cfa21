"""The capacity ledger: which GPUs are free on which node, and who holds the others.

Free GPUs = allocatable - requests of non-terminal bound pods - reservations. Their free bytes come from the
node agent where it reports, else from labels. A reservation stands for a replica
of a managed Deployment without a bound pod. Everything is rebuilt from nodes, pods and Deployments, never
remembered. The scheduler stays the final judge; the ledger only keeps two decisions from counting on one
GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
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
from diffusion_operator.inventory.quota import Quota, QuotaUse, quota_uses
from diffusion_operator.inventory.selection import NodeSelection

ANY = NodeSelection()
_OWNERS = ("owners",)


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
    plan_hash: str | None = None
    """Plan that the pod follows; None for reservations, foreign pods and pods that are terminating."""


@dataclass(frozen=True, slots=True)
class NodeCapacity:
    """One node as one owner sees it. `holders` are (name, GPUs), most first, without the owner itself.

    `room` is what the node agent measured, None where no report counts. `staying` are GPUs that the owner's
    own pods hold, by the plan that they follow; they stay there even when no new pod may come.
    """

    node: Node
    total: int
    free: int
    host_free_bytes: int
    holders: tuple[tuple[str, int], ...] = ()
    room: MeasuredRoom | None = None
    staying: tuple[tuple[str, int], ...] = ()

    def held_by(self, plan_hash: str) -> int:
        """GPUs that the owner's pods of this plan hold."""
        return min(self.free, sum(gpus for held, gpus in self.staying if held == plan_hash))


@dataclass(frozen=True)
class Ledger:
    """Nodes by name, the claims on each, and the node agents' reports that count. Immutable."""

    nodes: tuple[Node, ...]
    claims: Mapping[str, tuple[Claim, ...]] = field(default_factory=dict)
    unplaced: tuple[Claim, ...] = ()
    """Replicas of managed Deployments that no node holds now: they wait for nodes that do not exist yet."""
    quotas: tuple[QuotaUse, ...] = ()
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
        own = self.nodes_of(owner) if owner is not None else frozenset()
        if not own:
            return views
        return tuple(
            self._view(view.node, owner, resource_name) if view.node.name in own else view for view in views
        )

    def nodes_of(self, owner: str) -> frozenset[str]:
        """Names of the nodes on which an owner has claims."""
        known: dict[str, frozenset[str]] | None = self.memo.get(_OWNERS)
        if known is None:
            found: dict[str, set[str]] = {}
            for name, claims in self.claims.items():
                for claim in claims:
                    if claim.owner is not None:
                        found.setdefault(claim.owner, set()).add(name)
            known = self.memo[_OWNERS] = {owner: frozenset(names) for owner, names in found.items()}
        return known.get(owner, frozenset())

    def changed(
        self,
        claims: Mapping[str, tuple[Claim, ...]],
        owner: str | None = None,
        owner_nodes: frozenset[str] = frozenset(),
    ) -> Ledger:
        """The same nodes with these claims on some of them. `owner_nodes` are then the owner's nodes.

        What was worked out for the other nodes stays: views of capacity are replaced one by one, and
        everything else of the memo moves to ("before", key), where whoever made it may mend it.
        """
        merged = {**self.claims, **claims}
        new = replace(self, claims={name: found for name, found in merged.items() if found}, memo={})
        for key, value in self.memo.items():
            if key == _OWNERS:
                owners = {k: names for k, names in value.items() if k != owner}
                new.memo[key] = owners | ({owner: owner_nodes} if owner is not None and owner_nodes else {})
            elif isinstance(key, tuple) and key[0] == "capacity":
                new.memo[key] = tuple(
                    new._view(view.node, None, key[1]) if view.node.name in claims else view for view in value
                )
            elif isinstance(key, tuple) and key[0] in ("usable", "before"):
                new.memo[key] = value
            else:
                new.memo["before", key] = value
        return new

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
            for name in sorted(self.nodes_of(owner))
            for claim in self.claims.get(name, ())
            if claim.owner == owner
            and claim.resource_name == resource_name
            and not claim.top_up
            and group in (None, claim.group)
        )

    def overdrawn(self, names: Iterable[str]) -> bool:
        """Whether more is claimed of one of these nodes than it has, so that a reservation must move."""
        wanted = set(names)
        return any(
            sum(claim.gpus for claim in self.claims.get(node.name, ()) if claim.resource_name == resource)
            > total
            for node in self.nodes
            if node.name in wanted
            for resource, total in node.extended.items()
        )

    def _view(self, node: Node, owner: str | None, resource_name: str) -> NodeCapacity:
        total, gpus, memory, own_memory = node.extended.get(resource_name, 0), 0, 0, 0
        holders: dict[str, int] = {}
        staying: Counter[str] = Counter()
        for claim in self.claims.get(node.name, ()):
            if owner is not None and claim.owner == owner:
                own_memory += 0 if claim.reserved else claim.memory_bytes
                if claim.plan_hash and claim.resource_name == resource_name:
                    staying[claim.plan_hash] += claim.gpus
                continue
            memory += claim.memory_bytes
            if claim.resource_name == resource_name and claim.gpus:
                gpus += claim.gpus
                name = claim.owner or claim.holder
                holders[name] = holders.get(name, 0) + claim.gpus
        ranked = tuple(sorted(holders.items(), key=lambda item: (-item[1], item[0])))
        host = self._host_free_bytes(node, memory, own_memory)
        room = self._room(node.name, owner)
        return NodeCapacity(node, total, max(0, total - gpus), host, ranked, room, tuple(staying.items()))

    def _host_free_bytes(self, node: Node, taken_bytes: int, own_bytes: int) -> int:
        """By requests; by measurement where it says less. What own pods asked for counts as free again."""
        requested = max(0, node.memory_bytes - taken_bytes)
        report = self.reports.get(node.name)
        if report is None or report.host_free_bytes is None:
            return requested
        # Rounded before the own part is added: what runs is never too large for itself.
        measured = report.host_free_bytes - report.host_free_bytes % HOST_EXACT_TO_BYTES
        return min(requested, measured + own_bytes)

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
    memo: dict[Hashable, Any] = {}
    unplaced: list[Claim] = []
    for deployment in managed:
        mine = own.get((deployment.owner, deployment.group), [])
        unplaced += _reserve(ordered, claims, deployment, mine, memo)
    return Ledger(
        ordered,
        {name: tuple(found) for name, found in claims.items() if found},
        tuple(unplaced),
        quota_uses(quotas, every_pod, managed),
        trusted_reports(reports, every_pod),
        memo,
    )


def with_owner(
    ledger: Ledger, owner: str, pods: Iterable[Pod], deployments: Iterable[ManagedDeployment]
) -> Ledger:
    """The ledger after only this owner's pods and Deployments changed; costs little beside a new build.

    Its reservations are packed around everybody else's, which stay where they are.
    """
    touched = set(ledger.nodes_of(owner))
    claims = {node.name: list(ledger.claims.get(node.name, ())) for node in ledger.nodes}
    for name in touched:
        claims[name] = [claim for claim in claims[name] if claim.owner != owner]
    alive = [pod for pod in pods if not pod.terminal and pod.node in claims]
    for pod in sorted(alive, key=lambda pod: (pod.namespace, pod.name)):
        claims[pod.node or ""].extend(_pod_claims(pod))
    unplaced = [claim for claim in ledger.unplaced if claim.owner != owner]
    for deployment in sorted(deployments, key=lambda item: item.name):
        own = [pod for pod in alive if pod.group == deployment.group]
        unplaced += _reserve(ledger.nodes, claims, deployment, own, ledger.memo)
    after = {name for name, found in claims.items() if any(claim.owner == owner for claim in found)}
    new = ledger.changed({name: tuple(claims[name]) for name in touched | after}, owner, frozenset(after))
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
        claim = Claim(holder, pod.owner, pod.node or "", resource, amount, memory, pod.group)
        claims.append(claim if pod.terminating else replace(claim, plan_hash=pod.plan_hash))
    return claims


def _reserve(
    nodes: tuple[Node, ...],
    claims: dict[str, list[Claim]],
    deployment: ManagedDeployment,
    own_pods: Iterable[Pod],
    memo: dict[Hashable, Any],
) -> list[Claim]:
    """Add claims for replicas without a pod of the present plan; returns those of what fits nowhere.

    `own_pods` are bound pods of the deployment's owner and group. Pods of an older plan make room for their
    successors: on their nodes only what the successors need beyond them is added, as a top-up.
    """
    own = [pod for pod in own_pods if not pod.terminating]
    resource, gpus = deployment.resource_name, deployment.gpus_per_pod
    outdated: Counter[str] = Counter()
    for pod in own:
        if _is_outgrown(pod, deployment):
            outdated[pod.node or ""] += pod.extended.get(resource, 0)
    staying = sum(not _is_outgrown(pod, deployment) for pod in own)
    missing = deployment.replicas - staying
    if missing <= 0:
        return []
    free = {
        node.name: _free(node, claims[node.name], resource)
        for node in _usable(nodes, deployment.selection, memo)
    }
    here = {name: free[name] + held for name, held in outdated.items() if name in free}
    places = Counter(pack(here, gpus, missing))
    for name, count in places.items():
        more = count * gpus - outdated[name]
        if more > 0:
            claims[name].append(_reservation(deployment, name, more, 0, top_up=True))
    elsewhere = {name: amount for name, amount in free.items() if name not in here}
    others = pack(elsewhere, gpus, missing - places.total())
    for name in others:
        claims[name].append(_reservation(deployment, name, gpus, deployment.memory_bytes_per_pod))
    return [_reservation(deployment, "", gpus, 0)] * (missing - places.total() - len(others)) if gpus else []


def _is_outgrown(pod: Pod, deployment: ManagedDeployment) -> bool:
    """Whether the pod's successor needs more GPUs than it holds."""
    held = pod.extended.get(deployment.resource_name, 0)
    return pod.plan_hash != deployment.plan_hash and held < deployment.gpus_per_pod


def _usable(nodes: tuple[Node, ...], selection: NodeSelection, memo: dict[Hashable, Any]) -> list[Node]:
    """Nodes that a pod with this selection may run on; nearly all Deployments share a few selections."""
    key = ("usable", repr(selection))
    found: list[Node] | None = memo.get(key)
    if found is None:
        found = memo[key] = [node for node in nodes if unfit(node, selection) is None]
    return found


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
