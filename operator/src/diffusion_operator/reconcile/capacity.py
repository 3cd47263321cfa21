"""The ledger that decisions are made from: kept from the mirror, and ahead of it by our own promises.

A decision and its promise happen between two awaits of the event loop: that is the one lock, and however many
decisions are due share one ledger. A promise counts from the moment it is made, before it is written and long
before its echo; it is let go only when the mirror shows what became of it. A status that still promises more
than its Deployment keeps those GPUs too, so no two statuses ever promise one GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from diffusion_operator.inventory.gpu_nodes import GpuNodeReport, trusted_reports
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.inventory.ledger_build import build_ledger, with_foreign, with_owners, with_reports
from diffusion_operator.inventory.objects import ManagedDeployment, Node, Pod
from diffusion_operator.inventory.promised import as_promised, gpus_of
from diffusion_operator.inventory.quota import Quota, quota_uses
from diffusion_operator.inventory.totals import GpuTotals, gpu_totals
from diffusion_operator.kube.resources import (
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    GPU_NODES,
    NODES,
    PODS,
    RESOURCE_QUOTAS,
    Resource,
)
from diffusion_operator.reconcile.mirror import Entry, Identity, Mirror, Owner

# Reservations that were packed one by one may lie worse than when packed together.
REBUILD_AFTER_S = 10.0


@dataclass
class _Stale:
    """What changed since the ledger was brought up to date."""

    all: bool = True
    owners: set[Owner] = field(default_factory=set)
    nodes: set[str] = field(default_factory=set)
    reports: bool = False


class Capacity:
    """See the module."""

    def __init__(self, mirror: Mirror, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._mirror = mirror
        self._monotonic = monotonic
        self._stale = _Stale()
        self._ledger = Ledger(())
        self._built_s = 0.0
        self._promises: dict[Owner, tuple[ManagedDeployment, ...]] = {}
        self._in_doubt: set[Owner] = set()
        self._foreign: dict[str, dict[Identity, Pod]] = {}
        self._writers: frozenset[str] = frozenset()
        mirror.on_change(self._changed)

    def ledger(self) -> Ledger:
        """All that the mirror holds and all promises, as of now."""
        stale, self._stale = self._stale, _Stale(all=False)
        if stale.all or (
            (stale.owners or stale.nodes) and self._monotonic() - self._built_s > REBUILD_AFTER_S
        ):
            self._ledger = self._build()
            self._built_s = self._monotonic()
            return self._ledger
        for node in stale.nodes:
            self._ledger = with_foreign(self._ledger, node, self._foreign.get(node, {}).values())
        if stale.owners:
            self._ledger = self._with(stale.owners)
        if stale.reports:
            self._ledger = with_reports(self._ledger, trusted_reports(self._reports(), self._pods()))
        touched = stale.nodes.union(*(self._ledger.nodes_of("/".join(owner)) for owner in stale.owners))
        displaced = self._ledger.displaced(touched)
        if displaced:  # a pod was bound where another owner's reservation lay
            self._ledger = self._with({_identity(owner) for owner in displaced})
            displaced = self._ledger.displaced(touched)
        if touched and (self._ledger.unplaced or displaced):
            # Only together do they find their places.
            self._ledger = self._build()
            self._built_s = self._monotonic()
        return self._ledger

    def _with(self, owners: Iterable[Owner]) -> Ledger:
        """The ledger with what these hold and reserve now."""
        changed = {"/".join(owner): (self._own_pods(owner), self._reserving(owner)) for owner in owners}
        return with_owners(self._ledger, changed)

    def totals(self) -> tuple[GpuTotals, ...]:
        """GPUs by product, as the last decision found them; nothing before the first."""
        return gpu_totals(self._ledger)

    def ledger_for(self, namespace: str) -> Ledger:
        """The same with the quotas of one namespace, counted anew: few namespaces have any."""
        ledger = self.ledger()
        quotas = [
            entry.view
            for (where, _), entry in self._mirror.entries(RESOURCE_QUOTAS)
            if where == namespace and isinstance(entry.view, Quota)
        ]
        if not quotas:
            return ledger
        owners = {identity for identity, _ in self._mirror.entries(DIFFUSION_DEPLOYMENTS)}
        here = sorted(owner for owner in owners | self._promises.keys() if owner[0] == namespace)
        pods = [pod for owner in here for pod in self._own_pods(owner)]
        coming = [deployment for owner in here for deployment in self._reserving(owner)]
        return replace(ledger, quotas=quota_uses(quotas, pods, coming))

    def promise(self, owner: Owner, deployments: Iterable[ManagedDeployment]) -> None:
        """These Deployments are about to be written; from now on their GPUs are taken."""
        self._promises[owner] = tuple(deployments)
        self._stale.owners.add(owner)

    def kept(self, owner: Owner) -> None:
        """The mirror shows what was promised (or that it was refused)."""
        self._in_doubt.discard(owner)
        if self._promises.pop(owner, None) is not None:
            self._stale.owners.add(owner)

    def doubt(self, owner: Owner) -> None:
        """A write may have happened or not: the promise stays until the owner's Deployments are read anew."""
        if owner in self._promises:
            self._in_doubt.add(owner)

    def in_doubt(self, owner: Owner) -> bool:
        """Whether this owner's Deployments have to be read before the next decision."""
        return owner in self._in_doubt

    def _build(self) -> Ledger:
        nodes = [entry.view for _, entry in self._mirror.entries(NODES) if isinstance(entry.view, Node)]
        owners = {entry.owner for _, entry in self._mirror.entries(DEPLOYMENTS) if entry.owner}
        owners |= {identity for identity, _ in self._mirror.entries(DIFFUSION_DEPLOYMENTS)}
        reserving = [one for owner in owners | self._promises.keys() for one in self._reserving(owner)]
        return build_ledger(nodes, self._pods(), reserving, reports=self._reports())

    def _pods(self) -> list[Pod]:
        return [entry.view for _, entry in self._mirror.entries(PODS) if isinstance(entry.view, Pod)]

    def _reports(self) -> list[GpuNodeReport]:
        """All reports, counting or not; notes who wrote them, whose readiness decides which count."""
        entries = self._mirror.entries(GPU_NODES)
        found = [entry.view for _, entry in entries if isinstance(entry.view, GpuNodeReport)]
        self._writers = frozenset(report.reporter_uid for report in found)
        return found

    def _own_pods(self, owner: Owner) -> list[Pod]:
        entries = self._mirror.owned_entries(PODS, owner)
        return [entry.view for entry in entries if isinstance(entry.view, Pod)]

    def _reserving(self, owner: Owner) -> list[ManagedDeployment]:
        """For each group the largest of what is live, what is promised and what the status still says."""
        found: dict[str, ManagedDeployment] = {}
        live = (entry.view for entry in self._mirror.owned_entries(DEPLOYMENTS, owner))
        for one in (*live, *self._promises.get(owner, ())):
            if isinstance(one, ManagedDeployment):
                known = found.get(one.group)
                if known is None or gpus_of(one) >= gpus_of(known):
                    found[one.group] = one
        dd = self._mirror.get(DIFFUSION_DEPLOYMENTS, *owner)
        for placement in ((dd or {}).get("status") or {}).get("placements") or ():
            said = as_promised(placement, found.get(placement.get("group", "")), owner)
            found[said.group] = said
        for one in self._promises.get(owner, ()):
            found[one.group] = replace(found[one.group], promised_gpus=gpus_of(found[one.group]))
        return list(found.values())

    def _changed(
        self, resource: Resource, identity: Identity, before: Entry | None, after: Entry | None, _own: bool
    ) -> None:
        if resource is NODES:
            if (before and before.view) != (after and after.view):
                self._stale.all = True
        elif resource is GPU_NODES:
            self._stale.reports |= (before and before.view) != (after and after.view)
        elif resource is PODS:
            self._pod_changed(identity, before, after)
        elif resource is DEPLOYMENTS:
            self._stale.owners |= {entry.owner for entry in (before, after) if entry and entry.owner}
        elif resource is DIFFUSION_DEPLOYMENTS and _promised(before) != _promised(after):
            self._stale.owners.add(identity)

    def _pod_changed(self, identity: Identity, before: Entry | None, after: Entry | None) -> None:
        old, new = before and before.view, after and after.view
        if old == new:
            return
        for pod in (old, new):
            if not isinstance(pod, Pod):
                continue
            self._stale.reports |= pod.uid in self._writers
            if pod.owner is not None:
                self._stale.owners.add(_identity(pod.owner))
            elif pod.node is not None:
                there = self._foreign.setdefault(pod.node, {})
                if pod is new and not pod.terminal:
                    there[identity] = pod
                else:
                    there.pop(identity, None)
                self._stale.nodes.add(pod.node)


def _identity(owner: str) -> Owner:
    namespace, _, name = owner.partition("/")
    return namespace, name


def _promised(entry: Entry | None) -> object:
    return ((entry.raw or {}).get("status") or {}).get("placements") if entry is not None else None
