"""The capacity ledger: which GPUs are free on which node, and who holds the others.

Free GPUs = allocatable - requests of non-terminal bound pods - reservations. Their free bytes come from the
node agent where it reports, else from labels. A reservation stands for a replica
of a managed Deployment without a bound pod. Everything is rebuilt from nodes, pods and Deployments, never
remembered (ledger_build, reservations). The scheduler stays the final judge; the ledger only keeps two
decisions from counting on one GPU.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, TypeVar

from diffusion_operator.inventory.claims import Claim, NodeCapacity
from diffusion_operator.inventory.gpu_nodes import (
    HOST_EXACT_TO_BYTES,
    GpuNodeReport,
    MeasuredRoom,
    measured_room,
)
from diffusion_operator.inventory.left import Left
from diffusion_operator.inventory.matching import unfit
from diffusion_operator.inventory.objects import Node
from diffusion_operator.inventory.quota import QuotaUse
from diffusion_operator.inventory.selection import NodeSelection

ANY = NodeSelection()
Held = TypeVar("Held", bound=Collection[object])


class Kept(Enum):
    """What the memo of a ledger holds: the first part of each key, before the resource and the selection."""

    NODES = auto()
    POSITIONS = auto()
    USABLE = auto()
    OWNERS = auto()
    VIEWS = auto()
    LEFT = auto()
    EARLIER = auto()


_OF_NODES_ALONE = frozenset({Kept.NODES, Kept.POSITIONS, Kept.USABLE})
_BY_NAME = (Kept.NODES,)
_OWNERS = (Kept.OWNERS,)


@dataclass(frozen=True)
class Earlier:
    """What was made of a ledger before the claims on these nodes changed."""

    made: Any
    nodes: frozenset[str]


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
        key = (Kept.VIEWS, resource_name)
        views: tuple[NodeCapacity, ...] | None = self.memo.get(key)
        if views is None:
            having = (node for node in self.nodes if node.extended.get(resource_name))
            views = self.memo[key] = tuple(self._view(node, None, resource_name) for node in having)
        own = {} if owner is None else {v.node.name: v for v in self.own_capacity(owner, resource_name)}
        return tuple(own.get(view.node.name, view) for view in views) if own else views

    def own_capacity(self, owner: str, resource_name: str) -> tuple[NodeCapacity, ...]:
        """The nodes on which the owner has claims, as it sees them."""
        return tuple(
            self._view(node, owner, resource_name)
            for name in sorted(self.nodes_of(owner))
            if (node := self.by_name[name]).extended.get(resource_name)
        )

    def free_on(self, node_name: str, resource_name: str) -> int:
        """GPUs of one node that nobody holds."""
        return self._view(self.by_name[node_name], None, resource_name).free

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
        everything else of the memo moves to (EARLIER, key) as an `Earlier`, for whoever made it to mend.
        """
        new = replace(self, claims=_merged(self.claims, claims), memo={})
        for key, value in self.memo.items():
            if key == _OWNERS:
                new.memo[key] = _merged(value, owners or {})
            elif isinstance(key, tuple) and key[0] is Kept.VIEWS:
                new.memo[key] = new._with_views(value, key[1], claims)
            elif isinstance(key, tuple) and key[0] is Kept.LEFT:
                new.memo[key] = new._with_left(value, key[1], claims)
            elif of_nodes_alone(key):
                new.memo[key] = value
            elif isinstance(value, Earlier):
                new.memo[key] = Earlier(value.made, value.nodes.union(claims))
            else:
                new.memo[Kept.EARLIER, key] = Earlier(value, frozenset(claims))
        return new

    def _with_views(
        self, views: tuple[NodeCapacity, ...], resource_name: str, names: Iterable[str]
    ) -> tuple[NodeCapacity, ...]:
        position, mended = self._position(resource_name), list(views)
        for name in names:
            if (place := position.get(name)) is not None:
                mended[place] = self._view(views[place].node, None, resource_name)
        return tuple(mended)

    def capacity_of(self, names: Iterable[str], resource_name: str) -> tuple[NodeCapacity, ...]:
        """Those of the nodes that have the resource, as somebody sees them who holds nothing."""
        views, position = self.capacity(None, resource_name), self._position(resource_name)
        return tuple(views[position[name]] for name in names if name in position)

    def _position(self, resource_name: str) -> Mapping[str, int]:
        """Where a node is among those that have the resource."""
        key = (Kept.POSITIONS, resource_name)
        known: dict[str, int] | None = self.memo.get(key)
        if known is None:
            having = (node.name for node in self.nodes if node.extended.get(resource_name))
            known = self.memo[key] = {name: place for place, name in enumerate(having)}
        return known

    def _with_left(self, left: Left, resource_name: str, names: Iterable[str]) -> Left:
        mended = left.copy()
        for name in names:
            if name in mended.amounts:
                mended.set(name, self.free_on(name, resource_name))
        return mended

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


def _merged(known: Mapping[str, Held], newer: Mapping[str, Held]) -> dict[str, Held]:
    """What is known, with what is newer in its place; names with nothing are left out."""
    merged = dict(known)
    for name, found in newer.items():
        if found:
            merged[name] = found
        else:
            merged.pop(name, None)
    return merged


def of_nodes_alone(key: Hashable) -> bool:
    """Whether what a memo holds under this key says nothing of claims."""
    return isinstance(key, tuple) and key[0] in _OF_NODES_ALONE
