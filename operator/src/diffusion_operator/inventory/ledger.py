"""The capacity ledger: which GPUs are free on which node, and who holds the others.

Free GPUs = allocatable - requests of non-terminal bound pods - reservations. Their free bytes come from the
node agent where it reports, else from labels. A reservation stands for a replica
of a managed Deployment without a bound pod. Everything is rebuilt from nodes, pods and Deployments, never
remembered. The scheduler stays the final judge; the ledger only keeps two decisions from counting on one
GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from diffusion_operator.inventory.claims import Claim, NodeCapacity, pack
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
_BY_NAME = ("nodes",)


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

    @property
    def by_name(self) -> Mapping[str, Node]:
        """The nodes by name."""
        known: dict[str, Node] | None = self.memo.get(_BY_NAME)
        if known is None:
            known = self.memo[_BY_NAME] = {node.name: node for node in self.nodes}
        return known

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
        owners: Mapping[str, frozenset[str]] | None = None,
    ) -> Ledger:
        """The same nodes with these claims on some of them. `owners` have claims on these nodes then.

        What was worked out for the other nodes stays: views of capacity are replaced one by one, and
        everything else of the memo moves to ("before", key), where whoever made it may mend it.
        """
        merged = {**self.claims, **claims}
        new = replace(self, claims={name: found for name, found in merged.items() if found}, memo={})
        for key, value in self.memo.items():
            if key == _OWNERS:
                new.memo[key] = {k: names for k, names in (value | (owners or {})).items() if names}
            elif isinstance(key, tuple) and key[0] == "capacity":
                new.memo[key] = tuple(
                    new._view(view.node, None, key[1]) if view.node.name in claims else view for view in value
                )
            elif _of_nodes_alone(key) or (isinstance(key, tuple) and key[0] == "before"):
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

    def displaced(self, names: Iterable[str]) -> frozenset[str]:
        """Owners with a reservation on one of these nodes where more is claimed than there is."""
        return frozenset(
            claim.owner
            for name in names
            if name in self.by_name
            for resource, total in self.by_name[name].extended.items()
            if sum(c.gpus for c in self.claims.get(name, ()) if c.resource_name == resource) > total
            for claim in self.claims.get(name, ())
            if claim.reserved and claim.resource_name == resource and claim.owner is not None
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
    empty = Ledger(ordered)
    room = _Room(empty, claims)
    unplaced: list[Claim] = []
    for deployment in managed:
        mine = own.get((deployment.owner, deployment.group), [])
        unplaced += _reserve(room, deployment, mine)
    return Ledger(
        ordered,
        {name: tuple(found) for name, found in claims.items() if found},
        tuple(unplaced),
        quota_uses(quotas, every_pod, managed),
        trusted_reports(reports, every_pod),
        {key: value for key, value in empty.memo.items() if _of_nodes_alone(key)},
    )


def _of_nodes_alone(key: Hashable) -> bool:
    """Whether what a memo holds under this key says nothing of claims."""
    return isinstance(key, tuple) and key[0] in ("usable", *_BY_NAME)


Owned = tuple[Sequence[Pod], Sequence[ManagedDeployment]]


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
    room = _Room(ledger, claims)
    unplaced = [claim for claim in ledger.unplaced if claim.owner not in owners]
    for owner, (_, deployments) in sorted(owners.items()):
        for deployment in sorted(deployments, key=lambda item: item.name):
            own = [pod for pod in alive[owner] if pod.group == deployment.group]
            unplaced += _reserve(room, deployment, own)
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


class _Room:
    """Claims while reservations are added, and the GPUs that they leave on each node.

    `claims` are those that change; all other nodes are as in `before`. What is left is counted once per
    resource: a thousand reservations do not count a thousand nodes each.
    """

    def __init__(self, before: Ledger, claims: dict[str, list[Claim]]) -> None:
        self._before = before
        self._claims = claims
        self._free: dict[str, dict[str, int]] = {}
        self._usable: dict[tuple[str, str], dict[str, int]] = {}

    def usable(self, deployment: ManagedDeployment) -> Mapping[str, int]:
        """GPUs left on the nodes that pods of the deployment may run on; later reservations change it."""
        key = deployment.resource_name, repr(deployment.selection)
        found = self._usable.get(key)
        if found is None:
            free = self._left(deployment.resource_name)
            names = _usable(self._before.nodes, deployment.selection, self._before.memo)
            found = self._usable[key] = {name: free.get(name, 0) for name in names}
        return found

    def add(self, claim: Claim) -> None:
        """A reservation on its node."""
        free = self._left(claim.resource_name)
        left = free[claim.node] = max(0, free.get(claim.node, 0) - claim.gpus)
        for (resource, _), usable in self._usable.items():
            if resource == claim.resource_name and claim.node in usable:
                usable[claim.node] = left
        if claim.node not in self._claims:
            self._claims[claim.node] = list(self._before.claims.get(claim.node, ()))
        self._claims[claim.node].append(claim)

    def _left(self, resource: str) -> dict[str, int]:
        found = self._free.get(resource)
        if found is None:
            found = {view.node.name: view.free for view in self._before.capacity(None, resource)}
            for name, claims in self._claims.items():
                found[name] = _free(self._before.by_name[name], claims, resource)
            self._free[resource] = found
        return found


def _reserve(room: _Room, deployment: ManagedDeployment, own_pods: Iterable[Pod]) -> list[Claim]:
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
    free = room.usable(deployment)
    here = {name: free[name] + held for name, held in outdated.items() if name in free}
    places = Counter(pack(here, gpus, missing))
    for name, count in places.items():
        more = count * gpus - outdated[name]
        if more > 0:
            room.add(_reservation(deployment, name, more, 0, top_up=True))
    elsewhere = {name: amount for name, amount in free.items() if name not in here} if here else free
    others = pack(elsewhere, gpus, missing - places.total())
    for name in others:
        room.add(_reservation(deployment, name, gpus, deployment.memory_bytes_per_pod))
    placed = places.total() + len(others)
    elsewhere_gpus = sum(held for name, held in outdated.items() if name not in places)
    homeless_gpus = deployment.promised_gpus - (staying + placed) * gpus - elsewhere_gpus
    _hold_in_parts(room, deployment, homeless_gpus)
    return [_reservation(deployment, "", gpus, 0)] * (missing - placed) if gpus else []


def _hold_in_parts(room: _Room, deployment: ManagedDeployment, gpus: int) -> None:
    """Hold so many GPUs wherever they are, the largest parts first.

    A scheduler that does not pack as the ledger does can take a whole place that was promised. Until that
    promise is taken back, as many GPUs as it speaks of must not be promised to another.
    """
    free = room.usable(deployment) if gpus > 0 else {}
    for name in sorted(free, key=lambda name: (-free[name], name)):
        part = min(free[name], gpus)
        if part <= 0:
            return
        room.add(_reservation(deployment, name, part, 0, top_up=True))
        gpus -= part


def _is_outgrown(pod: Pod, deployment: ManagedDeployment) -> bool:
    """Whether the pod's successor needs more GPUs than it holds."""
    held = pod.extended.get(deployment.resource_name, 0)
    return pod.plan_hash != deployment.plan_hash and held < deployment.gpus_per_pod


def _usable(nodes: tuple[Node, ...], selection: NodeSelection, memo: dict[Hashable, Any]) -> list[str]:
    """Names of the nodes that a pod with this selection may run on; nearly all share a few selections."""
    key = ("usable", repr(selection))
    found: list[str] | None = memo.get(key)
    if found is None:
        found = memo[key] = [node.name for node in nodes if unfit(node, selection) is None]
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
