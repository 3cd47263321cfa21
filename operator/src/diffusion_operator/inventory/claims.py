"""What holds GPUs on a node, how a node looks to one owner, and where pods are packed. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from diffusion_operator.inventory.gpu_nodes import MeasuredRoom
from diffusion_operator.inventory.objects import Node


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


def pack(free: Mapping[str, int], gpus: int, count: int) -> list[str]:
    """Node names for up to `count` pods of `gpus` GPUs: the fullest node that still fits first, ties by name.

    `free` is GPUs per node. Fewer names than asked for means that the rest does not fit.
    """
    chosen: list[str] = []
    taken: set[str] = set()
    while gpus > 0 and len(chosen) < count:
        # Nodes that gave places are full by now, but for what is less than one more pod.
        fitting = ((amount, name) for name, amount in free.items() if amount >= gpus and name not in taken)
        amount, name = min(fitting, default=(0, ""))
        if not name:
            break
        # The fullest node stays the fullest until it is full, so all its places are taken at once.
        taken.add(name)
        chosen += [name] * min(amount // gpus, count - len(chosen))
    return chosen


def places(free: Iterable[int], gpus: int, most: int) -> int:
    """For how many pods `pack` finds nodes, up to `most`. Looks at no more nodes than it must."""
    found = 0
    if gpus <= 0 or most <= 0:
        return 0
    for amount in free:
        if amount >= gpus:
            found += amount // gpus
            if found >= most:
                return most
    return found
