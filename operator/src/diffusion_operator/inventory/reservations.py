"""Reservations: which free GPUs replicas without a pod are promised, packed as whole pods on nodes.

They are added one after the other into a `Room`; nothing here reads or remembers a cluster, and a claim that
is there is never moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Any

from diffusion_operator.inventory.claims import Claim, pack
from diffusion_operator.inventory.ledger import Kept, Ledger
from diffusion_operator.inventory.left import Left
from diffusion_operator.inventory.matching import unfit
from diffusion_operator.inventory.objects import ManagedDeployment, Node, Pod
from diffusion_operator.inventory.selection import NodeSelection


class Room:
    """Claims while reservations are added, and the GPUs that they leave on each node.

    `claims` are those that change; all other nodes are as in `before`.
    """

    def __init__(self, before: Ledger, claims: dict[str, list[Claim]]) -> None:
        self._before = before
        self._claims = claims
        self._usable: dict[tuple[str, str], Left] = {}

    def usable(self, deployment: ManagedDeployment) -> Left:
        """GPUs left on the nodes that pods of the deployment may run on; later reservations change it."""
        resource = deployment.resource_name
        key = resource, repr(deployment.selection)
        found = self._usable.get(key)
        if found is None:
            found = self._usable[key] = _left(self._before, resource, deployment.selection).copy()
            for name in self._claims:
                found.set(name, self._free(name, resource))
        return found

    def add(self, claim: Claim) -> None:
        """A reservation on its node."""
        if claim.node not in self._claims:
            self._claims[claim.node] = list(self._before.claims.get(claim.node, ()))
        self._claims[claim.node].append(claim)
        left = self._free(claim.node, claim.resource_name)
        for (resource, _), usable in self._usable.items():
            if resource == claim.resource_name:
                usable.set(claim.node, left)

    def _free(self, name: str, resource: str) -> int:
        used = sum(claim.gpus for claim in self._claims[name] if claim.resource_name == resource)
        return max(0, self._before.by_name[name].extended.get(resource, 0) - used)


def reserve(room: Room, deployment: ManagedDeployment, own_pods: Iterable[Pod]) -> list[Claim]:
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
    here = {name: free.amounts[name] + held for name, held in outdated.items() if name in free.amounts}
    places = Counter(pack(here, gpus, missing))
    for name, count in places.items():
        more = count * gpus - outdated[name]
        if more > 0:
            room.add(_reservation(deployment, name, more, 0, top_up=True))
    others = free.pack(gpus, missing - places.total(), without=here)
    for name in others:
        room.add(_reservation(deployment, name, gpus, deployment.memory_bytes_per_pod))
    placed = places.total() + len(others)
    elsewhere_gpus = sum(held for name, held in outdated.items() if name not in places)
    homeless_gpus = deployment.promised_gpus - (staying + placed) * gpus - elsewhere_gpus
    _hold_in_parts(room, deployment, homeless_gpus)
    return [_reservation(deployment, "", gpus, 0)] * (missing - placed) if gpus else []


def _hold_in_parts(room: Room, deployment: ManagedDeployment, gpus: int) -> None:
    """Hold so many GPUs wherever they are, the largest parts first.

    A scheduler that does not pack as the ledger does can take a whole place that was promised. Until that
    promise is taken back, as many GPUs as it speaks of must not be promised to another.
    """
    free = room.usable(deployment).amounts if gpus > 0 else {}
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


def _left(ledger: Ledger, resource: str, selection: NodeSelection) -> Left:
    """GPUs that a ledger's claims leave on the nodes that a pod with this selection may run on.

    Nearly all deployments share a few selections, so it is kept with the ledger, which mends it.
    """
    key = (Kept.LEFT, resource, repr(selection))
    found: Left | None = ledger.memo.get(key)
    if found is None:
        free = {view.node.name: view.free for view in ledger.capacity(None, resource)}
        names = _usable(ledger.nodes, selection, ledger.memo)
        found = ledger.memo[key] = Left({name: free.get(name, 0) for name in names})
    return found


def _usable(nodes: tuple[Node, ...], selection: NodeSelection, memo: dict[Hashable, Any]) -> list[str]:
    """Names of the nodes that a pod with this selection may run on; nearly all share a few selections."""
    key = (Kept.USABLE, repr(selection))
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
