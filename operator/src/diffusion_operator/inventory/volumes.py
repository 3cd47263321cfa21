"""Slim projections of PersistentVolumeClaim and PersistentVolume: which nodes can mount a claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_operator.inventory.objects import Pod
from diffusion_operator.inventory.requests import part
from diffusion_operator.inventory.selection import Expression, Mount, parse_terms

Raw = Mapping[str, Any]
SINGLE_NODE_MODES = frozenset({"ReadWriteOnce", "ReadWriteOncePod"})


@dataclass(frozen=True, slots=True)
class Claim:
    """A PersistentVolumeClaim. `volume` is empty until it is bound."""

    namespace: str
    name: str
    volume: str = ""
    access_modes: tuple[str, ...] = ()

    @property
    def single_node(self) -> bool:
        """Whether only pods of one node can mount it at a time."""
        return bool(self.access_modes) and set(self.access_modes) <= SINGLE_NODE_MODES


@dataclass(frozen=True, slots=True)
class Volume:
    """A PersistentVolume and the nodes that reach it; no terms mean all nodes."""

    name: str
    terms: tuple[tuple[Expression, ...], ...] = ()


def parse_claim(raw: Raw) -> Claim:
    """Projection of a PersistentVolumeClaim."""
    metadata, spec = part(raw, "metadata"), part(raw, "spec")
    return Claim(
        namespace=str(metadata.get("namespace", "")),
        name=str(metadata.get("name", "")),
        volume=str(spec.get("volumeName") or ""),
        access_modes=tuple(map(str, spec.get("accessModes") or ())),
    )


def parse_volume(raw: Raw) -> Volume:
    """Projection of a PersistentVolume."""
    required = part(part(part(raw, "spec"), "nodeAffinity"), "required")
    return Volume(str(part(raw, "metadata").get("name", "")), parse_terms(required))


def mount_of(claim: Claim, volume: Volume | None, pods: Iterable[Pod]) -> Mount:
    """What mounting this claim asks of a node. `pods` are looked at only where one node counts."""
    only_node = None
    if claim.single_node:
        users = sorted(
            pod.node
            for pod in pods
            if pod.node and not pod.terminal and pod.namespace == claim.namespace and claim.name in pod.claims
        )
        only_node = users[0] if users else None
    return Mount(claim.name, volume.terms if volume else (), only_node)
