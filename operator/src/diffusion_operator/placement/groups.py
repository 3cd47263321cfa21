"""Sorts the nodes that a spec allows into groups of one GPU product, and says why others are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from diffusion_operator.api.names import distinct_slug, group_slug
from diffusion_operator.api.quantities import parse_whole
from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.inventory.claims import NodeCapacity, pack, places
from diffusion_operator.inventory.gpu_nodes import MeasuredRoom
from diffusion_operator.inventory.hardware import MIB, gpu_labels, too_old
from diffusion_operator.inventory.ledger import Earlier, Kept, Ledger
from diffusion_operator.inventory.matching import Unfit, unfit
from diffusion_operator.inventory.objects import Node
from diffusion_operator.inventory.pools import NodePool
from diffusion_operator.inventory.selection import Mount, NodeSelection, Toleration
from diffusion_operator.placement.alike import alike_node, labelled_device, with_free
from diffusion_operator.placement.decision import CurrentGroup
from diffusion_operator.placement.host_memory import gpus_with_memory, planned_host_bytes
from diffusion_operator.placement.wish import resource_of, selection_of
from diffusion_runtime.planning.devices import Device, GpuNode
from diffusion_runtime.planning.documents import Plan
from diffusion_runtime.planning.explain import format_bytes


@dataclass(frozen=True)
class Candidate:
    """A node of the group as the deployment sees it.

    `down` says why it cannot take pods now, None when it can.
    """

    capacity: NodeCapacity
    device: Device
    down: str | None
    future: bool = False
    """A node that a pool may bring; it is `down` until then."""
    lost_label: bool = False
    """A node whose labels no longer say what it is; it is `down`, and only pods that run there count."""

    # A candidate is shared by all decisions until its node changes, so what follows is worked out once.

    @cached_property
    def free(self) -> int:
        """GPUs that can be used now."""
        return 0 if self.down else self.capacity.free

    @cached_property
    def free_bytes(self) -> int:
        """Bytes that a new pod is sure to find on whichever of these GPUs it gets."""
        least = self._measured.least_bytes if self._measured else None
        return self.device.free_bytes if least is None else min(self.device.free_bytes, least)

    @cached_property
    def free_device(self) -> Device:
        """One of these GPUs, as the planner sees it."""
        return self.device if self._measured is None else with_free(self.device, self.free_bytes)

    def roomy(self, needed_bytes: int) -> int:
        """GPUs that can be used now by new pods that need so many bytes on each."""
        return self.free if self.free_bytes >= needed_bytes else 0

    def keeping(self, needed_bytes: int, plan_hash: str) -> int:
        """The same for a plan that exists: its pods stay on the GPUs that they hold, cordoned or not."""
        free = self.capacity.held_by(plan_hash) if self.down else self.capacity.free
        if self._measured is None:
            return free if self.free_bytes >= needed_bytes else 0
        return self._measured.fitting(free, needed_bytes)

    @cached_property
    def free_node(self) -> GpuNode:
        """The node with the GPUs that can be used now, as the planner sees it."""
        return _gpu_node(self, self.free_device, self.free, self.capacity.host_free_bytes)

    @cached_property
    def _measured(self) -> MeasuredRoom | None:
        """What was measured; of slices and shared GPUs a report says nothing that could be used."""
        room = self.capacity.room
        return None if room is None or self.device.mig or self.device.shared else room

    def minus(self, owner: str, plan: Plan, replicas: int) -> Candidate:
        """The node with `replicas` more pods of `owner` on it."""
        if not replicas:
            return self
        gpus, old = plan.gpus_per_replica * replicas, self.capacity
        host = max(0, old.host_free_bytes - planned_host_bytes(plan) * replicas)
        taken = replace(
            old, free=old.free - gpus, host_free_bytes=host, holders=((owner, gpus), *old.holders)
        )
        return replace(self, capacity=taken)


@dataclass(frozen=True)
class Group:
    """Nodes of one product. `node_selector` (and the absence of `without_label`) pins pods to them."""

    name: str
    product: str
    candidates: tuple[Candidate, ...]
    node_selector: Mapping[str, str]
    without_label: str | None = None
    tolerations: tuple[Toleration, ...] = ()
    pool: str | None = None
    drivers: tuple[tuple[int, ...], ...] = ()
    """Drivers of its nodes as far as labels tell them, oldest first."""

    @cached_property
    def free_nodes(self) -> tuple[GpuNode, ...]:
        """What can be used now, for the planner."""
        return tuple([c.free_node for c in self.candidates if c.free])

    @cached_property
    def position(self) -> Mapping[str, int]:
        """Where among the candidates a node is, by its name."""
        return {c.capacity.node.name: place for place, c in enumerate(self.candidates)}

    @cached_property
    def future_nodes(self) -> tuple[GpuNode, ...]:
        """What a pool may bring, for the planner."""
        return tuple(_gpu_node(c, c.device, c.capacity.free, 0) for c in self.candidates if c.future)

    @property
    def hardware(self) -> str:
        """What an experience with this group holds for: product, memory of a GPU, oldest driver."""
        device = self.candidates[0].device
        driver = ".".join(map(str, self.drivers[0])) if self.drivers else "unknown"
        return f"{self.product} {device.total_bytes // MIB}MiB driver {driver}"

    def fits(self, plan: Plan, wanted: int, *, future: bool = False, staying: bool = False) -> int:
        """How many of `wanted` pods that follow `plan` the free GPUs, their memory and host memory hold.

        With `future`, what pools may bring is counted, and only that. With `staying` the owner's pods that
        run stay on their GPUs, whatever else uses these now.
        """
        room = self._room(plan, future=future, staying=staying)
        return places((gpus for _, gpus in room), plan.gpus_per_replica, wanted)

    def _room(self, plan: Plan, *, future: bool = False, staying: bool = False) -> Iterator[tuple[str, int]]:
        """Each node and its GPUs that pods of this plan could use."""
        needed, host = needed_bytes(plan), planned_host_bytes(plan)
        for c in self.candidates:
            if not (c.future if future else staying or not c.down):
                continue
            gpus = c.capacity.free if future else c.keeping(needed, plan.hash) if staying else c.roomy(needed)
            if host:
                known = c.capacity.host_free_bytes if c.capacity.node.memory_bytes else None
                gpus = gpus_with_memory(plan, gpus, known)
            yield c.capacity.node.name, gpus

    def after(self, owner: str, plan: Plan, replicas: int, *, staying: bool = False) -> Group:
        """The group as it looks once `replicas` pods of `owner` follow `plan` on it."""
        names = Counter(pack(dict(self._room(plan, staying=staying)), plan.gpus_per_replica, replicas))
        return replace(
            self,
            candidates=tuple(c.minus(owner, plan, names[c.capacity.node.name]) for c in self.candidates),
        )

    def empty_nodes(self) -> tuple[GpuNode, ...]:
        """What there would be if nothing else ran and every node were up."""
        return tuple(
            _gpu_node(c, c.device, c.capacity.total, c.capacity.node.memory_bytes) for c in self.candidates
        )


def needed_bytes(plan: Plan) -> int:
    """What each GPU must have free: the peak, or what the plan was made for when it knew of a shortfall."""
    return min(plan.memory.peak_per_gpu_bytes, plan.memory.free_per_gpu_bytes)


@dataclass(frozen=True)
class Survey:
    """All groups, and the nodes with the resource that are in none, with (kind, words) of the reason."""

    groups: tuple[Group, ...]
    left_out: tuple[tuple[Node, str, str], ...]
    resource_name: str
    mounts: tuple[Mount, ...] = ()


@dataclass(frozen=True)
class Terms:
    """What the installation says of nodes: pools that can grow, the oldest driver that the engine takes."""

    pools: tuple[NodePool, ...] = ()
    least_driver: tuple[int, ...] = ()


@dataclass
class _Draft:
    candidates: list[Candidate] = field(default_factory=list)
    node_selector: dict[str, str] = field(default_factory=dict)
    without_label: str | None = None
    pool: NodePool | None = None
    drivers: set[tuple[int, ...]] = field(default_factory=set)


def survey(
    spec: DiffusionDeploymentSpec,
    ledger: Ledger,
    owner: str,
    terms: Terms = Terms(),  # frozen
    current: tuple[CurrentGroup, ...] = (),
    mounts: tuple[Mount, ...] = (),
) -> Survey:
    """Look at every node that has the resource.

    Groups are sorted by name, so that the result is deterministic. A group that `current` knows keeps its
    name.
    """
    resource, selection = resource_of(spec), replace(selection_of(spec), mounts=mounts)
    hardware = spec.hardware
    wanted = (tuple(hardware.product_in or ()), hardware.min_memory) if hardware else None
    if spec.performance and spec.performance.device == "cpu":
        terms = replace(terms, least_driver=())  # no driver is asked for anything
    key = ("survey", resource, repr(selection), wanted, terms)
    found: Survey | None = ledger.memo.get(key)
    if found is None:
        # A view of the same nodes before some claims changed differs in the capacities alone.
        earlier: Earlier | None = ledger.memo.pop((Kept.EARLIER, key), None)
        found = ledger.memo[key] = (
            _survey(spec, ledger, resource, selection, terms)
            if earlier is None
            else _seen_through(earlier.made, ledger.capacity_of(earlier.nodes, resource))
        )
    return _seen_through(_named(found, current), ledger.own_capacity(owner, resource))


def _seen_through(found: Survey, views: Iterable[NodeCapacity]) -> Survey:
    """The survey with these views in the place of those that it has of the same nodes."""
    return replace(found, groups=tuple(_seen_with(group, views) for group in found.groups))


def _seen_with(group: Group, views: Iterable[NodeCapacity]) -> Group:
    """The group with these views of its nodes; unchanged where nothing differs."""
    position, old = group.position, group.candidates
    differing = [
        (place, view)
        for view in views
        if (place := position.get(view.node.name)) is not None and old[place].capacity is not view
    ]
    if not differing:
        return group
    candidates = list(old)
    for place, view in differing:
        candidates[place] = replace(old[place], capacity=view)
    seen = replace(group, candidates=tuple(candidates))
    vars(seen)["position"] = position  # as if worked out: the same nodes are at the same places
    return seen


def _survey(
    spec: DiffusionDeploymentSpec, ledger: Ledger, resource: str, selection: NodeSelection, terms: Terms
) -> Survey:
    """As somebody sees it who holds nothing."""
    drafts: dict[tuple[str, str], _Draft] = {}
    left_out: list[tuple[Node, str, str]] = []
    for capacity in ledger.capacity(None, resource):
        node = capacity.node
        pool = next((pool for pool in terms.pools if pool.holds(node)), None)
        device, reason = _device(node, resource, spec, pool)
        if device is None:
            left_out.append((node, *reason))
            continue
        labels = gpu_labels(node, resource)
        if too_old(labels.driver, terms.least_driver):
            text = f"has driver {_dotted(labels.driver)}, but the engine needs {_dotted(terms.least_driver)}"
            left_out.append((node, "driver", text))
            continue
        tolerant = (
            replace(selection, tolerations=(*selection.tolerations, *pool.tolerations)) if pool else selection
        )
        problem = unfit(node, tolerant)
        if problem and problem.kind != "down":
            left_out.append((node, problem.kind, problem.text))
            continue
        draft = drafts.setdefault((pool.name if pool else "", device.product), _Draft(pool=pool))
        draft.candidates.append(Candidate(capacity, device, _down(problem)))
        pin = (pool.selector(resource), None) if pool else _pin(node, resource)
        draft.node_selector, draft.without_label = pin
        if labels.driver is not None:
            draft.drivers.add(labels.driver)
    groups = [_group(product, draft) for (_, product), draft in drafts.items()]
    return Survey(tuple(sorted(groups, key=_order)), tuple(left_out), resource, selection.mounts)


def _group(product: str, draft: _Draft) -> Group:
    pool = draft.pool
    return Group(
        pool_group_name(pool) if pool else _name(draft.candidates),
        product,
        tuple(draft.candidates),
        draft.node_selector,
        draft.without_label,
        pool.tolerations if pool else (),
        pool.name if pool else None,
        tuple(sorted(draft.drivers)),
    )


def pool_group_name(pool: NodePool) -> str:
    """Name of the group of a pool with labels; no GPU product is called so."""
    return group_slug(f"pool-{pool.name}")


def _order(group: Group) -> tuple[str, str]:
    return group.name, group.product


def _named(found: Survey, current: tuple[CurrentGroup, ...]) -> Survey:
    """No two groups of one name: who has it keeps it, then the first; the others get a suffix."""
    owners = {old.name: old.plan.gpu_product for old in current if old.plan.gpu_product}
    names: list[str] = []
    for group in found.groups:
        other = distinct_slug(group.name, group.product)
        foreign = owners.get(group.name, group.product) != group.product
        suffixed = owners.get(other) == group.product or foreign or group.name in names
        names.append(other if suffixed else group.name)
    if names == [group.name for group in found.groups]:
        return found
    renamed = (replace(group, name=name) for group, name in zip(found.groups, names, strict=True))
    return replace(found, groups=tuple(sorted(renamed, key=_order)))


def _dotted(version: tuple[int, ...] | None) -> str:
    return ".".join(map(str, version or ()))


def _device(
    node: Node, resource: str, spec: DiffusionDeploymentSpec, pool: NodePool | None = None
) -> tuple[Device | None, tuple[str, str]]:
    """The GPU of a node, or why the spec excludes it (`product`, `memory`) or nobody knows it (`unknown`).

    A node of a pool is known before GPU feature discovery has labelled it.
    """
    labels = gpu_labels(node, resource)
    if labels.product is None and labels.memory_bytes is None and pool is None:
        return None, ("unknown", f"has no label {resource}.product or {resource}.memory")
    fallback = pool.product if pool else f"unknown-{(labels.memory_bytes or 0) // MIB}MiB"
    product = labels.product or fallback
    memory = labels.memory_bytes or (pool.gpu_memory_bytes if pool else None)
    device = labelled_device(product, memory, labels.shared)
    if device is None:
        return None, ("unknown", f"has GPUs of the unknown product {product} and no label {resource}.memory")
    reason = excluded(device, product, spec)
    return (None, reason) if reason else (device, ("", ""))


def excluded(device: Device, product: str, spec: DiffusionDeploymentSpec) -> tuple[str, str] | None:
    """Why spec.hardware does not want this GPU, None when it does."""
    wanted = spec.hardware.product_in if spec.hardware else None
    names = {product.lower(), device.name.lower(), device.group}
    if wanted and not {name.lower() for name in wanted} & names:
        return "product", f"has {product}, not {' or '.join(wanted)}"
    least = spec.hardware.min_memory if spec.hardware else None
    if least is not None and device.total_bytes < parse_whole(least):
        return "memory", f"has GPUs of {format_bytes(device.total_bytes)}, less than {least}"
    return None


def _pin(node: Node, resource: str) -> tuple[dict[str, str], str | None]:
    label = f"{resource}.product"
    if label in node.labels:
        return {label: node.labels[label]}, None
    return {f"{resource}.memory": node.labels[f"{resource}.memory"]}, label


def _name(candidates: list[Candidate]) -> str:
    device = candidates[0].device
    return group_slug(f"{device.name}-shared" if device.shared else device.name)


def _down(problem: Unfit | None) -> str | None:
    return problem.text if problem else None


def _gpu_node(candidate: Candidate, device: Device, gpus: int, host_bytes: int) -> GpuNode:
    # A node that does not say how much memory it has is not taken for one without any.
    return alike_node(device, gpus, host_bytes if candidate.capacity.node.memory_bytes else None)
