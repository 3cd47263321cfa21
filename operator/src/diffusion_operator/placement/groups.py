"""Sorts the nodes that a spec allows into groups of one GPU product, and says why others are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache

from diffusion_operator.api.names import group_slug
from diffusion_operator.api.quantities import parse_whole
from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.inventory.gpu_nodes import MeasuredRoom
from diffusion_operator.inventory.hardware import MIB, gpu_labels
from diffusion_operator.inventory.ledger import Ledger, NodeCapacity, pack
from diffusion_operator.inventory.matching import Unfit, unfit
from diffusion_operator.inventory.objects import Node
from diffusion_operator.inventory.selection import NodeSelection
from diffusion_operator.placement.wish import resource_of, selection_of
from diffusion_runtime.planning.devices import Device, GpuNode, device_from_product
from diffusion_runtime.planning.errors import UnknownHardware
from diffusion_runtime.planning.explain import format_bytes


@dataclass(frozen=True)
class Candidate:
    """A node of the group as the deployment sees it.

    `down` says why it cannot take pods now, None when it can.
    """

    capacity: NodeCapacity
    device: Device
    down: str | None

    @property
    def free(self) -> int:
        """GPUs that can be used now."""
        return 0 if self.down else self.capacity.free

    @property
    def free_bytes(self) -> int:
        """Bytes that a new pod is sure to find on whichever of these GPUs it gets."""
        least = self._room.least_bytes if self._room else None
        return self.device.free_bytes if least is None else min(self.device.free_bytes, least)

    @property
    def free_device(self) -> Device:
        """One of these GPUs, as the planner sees it."""
        return self.device if self._room is None else _with_free(self.device, self.free_bytes)

    def roomy(self, needed_bytes: int) -> int:
        """GPUs that can be used now by new pods that need so many bytes on each."""
        return self.free if self.free_bytes >= needed_bytes else 0

    def keeping(self, needed_bytes: int) -> int:
        """The same for a plan that exists: its pods stay on the GPUs that they hold."""
        if self._room is None:
            return self.roomy(needed_bytes)
        return self._room.fitting(self.free, needed_bytes)

    @property
    def _room(self) -> MeasuredRoom | None:
        """What was measured; of slices and shared GPUs a report says nothing that could be used."""
        room = self.capacity.room
        return None if room is None or self.device.mig or self.device.shared else room

    def minus(self, owner: str, gpus: int) -> Candidate:
        """The node with `gpus` more GPUs held by `owner`."""
        if not gpus:
            return self
        holders = ((owner, gpus), *self.capacity.holders)
        return replace(self, capacity=replace(self.capacity, free=self.capacity.free - gpus, holders=holders))


@dataclass(frozen=True)
class Group:
    """Nodes of one product. `node_selector` (and the absence of `without_label`) pins pods to them."""

    name: str
    product: str
    candidates: tuple[Candidate, ...]
    node_selector: Mapping[str, str]
    without_label: str | None = None

    @cached_property
    def free_nodes(self) -> tuple[GpuNode, ...]:
        """What can be used now, for the planner."""
        return tuple(
            _gpu_node(c, c.free_device, c.free, c.capacity.host_free_bytes) for c in self.candidates if c.free
        )

    def after(self, owner: str, gpus: int, replicas: int) -> Group:
        """The group as it looks once `replicas` pods of `owner` with `gpus` GPUs each run on it."""
        names = Counter(pack({c.capacity.node.name: c.free for c in self.candidates}, gpus, replicas))
        return replace(
            self,
            candidates=tuple(c.minus(owner, gpus * names[c.capacity.node.name]) for c in self.candidates),
        )

    def empty_nodes(self) -> tuple[GpuNode, ...]:
        """What there would be if nothing else ran and every node were up."""
        return tuple(
            _gpu_node(c, c.device, c.capacity.total, c.capacity.node.memory_bytes) for c in self.candidates
        )


@dataclass(frozen=True)
class Survey:
    """All groups, and the nodes with the resource that are in none, with (kind, words) of the reason."""

    groups: tuple[Group, ...]
    left_out: tuple[tuple[Node, str, str], ...]
    resource_name: str


@dataclass
class _Draft:
    candidates: list[Candidate] = field(default_factory=list)
    node_selector: dict[str, str] = field(default_factory=dict)
    without_label: str | None = None


def survey(spec: DiffusionDeploymentSpec, ledger: Ledger, owner: str) -> Survey:
    """Look at every node that has the resource.

    Groups are sorted by name, so that the result is deterministic.
    """
    resource, selection = resource_of(spec), selection_of(spec)
    hardware = spec.hardware
    wanted = (tuple(hardware.product_in or ()), hardware.min_memory) if hardware else None
    key = ("survey", resource, repr(selection), wanted)
    found: Survey | None = ledger.memo.get(key)
    if found is None:
        found = ledger.memo[key] = _survey(spec, ledger, resource, selection)
    views = ledger.capacity(owner, resource)
    if views is ledger.capacity(None, resource):
        return found
    by_name = {view.node.name: view for view in views}
    return replace(found, groups=tuple(_seen_with(group, by_name) for group in found.groups))


def _seen_with(group: Group, views: Mapping[str, NodeCapacity]) -> Group:
    """The group with the capacities that one owner sees; unchanged where nothing differs."""
    candidates = tuple(
        c if views[c.capacity.node.name] is c.capacity else replace(c, capacity=views[c.capacity.node.name])
        for c in group.candidates
    )
    same = all(one is other for one, other in zip(candidates, group.candidates, strict=True))
    return group if same else replace(group, candidates=candidates)


def _survey(spec: DiffusionDeploymentSpec, ledger: Ledger, resource: str, selection: NodeSelection) -> Survey:
    """As somebody sees it who holds nothing."""
    drafts: dict[str, _Draft] = {}
    left_out: list[tuple[Node, str, str]] = []
    for capacity in ledger.capacity(None, resource):
        device, reason = _device(capacity.node, resource, spec)
        if device is None:
            left_out.append((capacity.node, *reason))
            continue
        problem = unfit(capacity.node, selection)
        if problem and problem.kind != "down":
            left_out.append((capacity.node, problem.kind, problem.text))
            continue
        draft = drafts.setdefault(device.product, _Draft())
        draft.candidates.append(Candidate(capacity, device, _down(problem)))
        draft.node_selector, draft.without_label = _pin(capacity.node, resource)
    groups = [
        Group(_name(d.candidates), product, tuple(d.candidates), d.node_selector, d.without_label)
        for product, d in drafts.items()
    ]
    return Survey(tuple(sorted(groups, key=lambda g: (g.name, g.product))), tuple(left_out), resource)


def _device(
    node: Node, resource: str, spec: DiffusionDeploymentSpec
) -> tuple[Device | None, tuple[str, str]]:
    """The GPU of a node, or why the spec excludes it (`product`, `memory`) or nobody knows it (`unknown`)."""
    labels = gpu_labels(node, resource)
    if labels.product is None and labels.memory_bytes is None:
        return None, ("unknown", f"has no label {resource}.product or {resource}.memory")
    product = labels.product or f"unknown-{(labels.memory_bytes or 0) // MIB}MiB"
    device = _labelled(product, labels.memory_bytes, labels.shared)
    if device is None:
        return None, ("unknown", f"has GPUs of the unknown product {product} and no label {resource}.memory")
    wanted = spec.hardware.product_in if spec.hardware else None
    if wanted and not {name.lower() for name in wanted} & {
        product.lower(),
        device.name.lower(),
        device.group,
    }:
        return None, ("product", f"has {product}, not {' or '.join(wanted)}")
    least = spec.hardware.min_memory if spec.hardware else None
    if least is not None and device.total_bytes < parse_whole(least):
        return None, ("memory", f"has GPUs of {format_bytes(device.total_bytes)}, less than {least}")
    return device, ("", "")


@lru_cache(maxsize=1024)
def _labelled(product: str, memory_bytes: int | None, shared: bool) -> Device | None:
    """The device of these labels, one object for all nodes that have them."""
    try:
        device = device_from_product(product, memory_bytes=memory_bytes)
    except UnknownHardware:
        return None
    return device.model_copy(update={"shared": True}) if shared and not device.shared else device


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
    return _alike(device, gpus, host_bytes if candidate.capacity.node.memory_bytes else None)


@lru_cache(maxsize=1024)
def _with_free(device: Device, free_bytes: int) -> Device:
    """The device with so much free, one object for all GPUs that are alike."""
    return device if free_bytes == device.free_bytes else device.model_copy(update={"free_bytes": free_bytes})


@lru_cache(maxsize=4096)
def _alike(device: Device, gpus: int, host_free_bytes: int | None) -> GpuNode:
    """One object for all nodes that look alike to the planner, which counts equal objects together."""
    return GpuNode(name=device.product, gpus=(device,) * gpus, host_free_bytes=host_free_bytes)
