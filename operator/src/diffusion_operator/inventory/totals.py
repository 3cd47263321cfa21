"""Who has the GPUs of a node, and of the whole cluster by product: for people and their dashboards.

No decision is made from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_operator.inventory.hardware import gpu_labels
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.inventory.objects import DEFAULT_RESOURCE

UNNAMED = "unlabelled"


@dataclass(frozen=True)
class Holder:
    """GPUs that one deployment of ours holds or has reserved on a node, or that one other pod holds."""

    name: str
    bound: int = 0
    reserved: int = 0
    other: int = 0


@dataclass(frozen=True)
class GpuTotals:
    """GPUs of one product. `promised` are held or reserved by deployments of ours, `free` by nobody.

    `reserved` is the part of `promised` that waits for its pods; `others` are held by pods that are not ours.
    """

    product: str
    resource: str
    allocatable: int
    promised: int
    free: int
    reserved: int = 0
    others: int = 0


def holders(ledger: Ledger, node: str, resource: str) -> tuple[Holder, ...]:
    """Who holds GPUs of a node, most first."""
    found: dict[tuple[bool, str], list[int]] = {}
    for claim in ledger.claims.get(node, ()):
        if claim.resource_name != resource or not claim.gpus:
            continue
        kind = 2 if claim.owner is None else int(claim.reserved)
        found.setdefault((claim.owner is None, claim.owner or claim.holder), [0, 0, 0])[kind] += claim.gpus
    ordered = sorted(found.items(), key=lambda item: (-sum(item[1]), item[0][1]))
    return tuple(Holder(name, *counts) for (_, name), counts in ordered)


def gpu_totals(ledger: Ledger) -> tuple[GpuTotals, ...]:
    """Totals of nvidia.com/gpu and of every other resource that a deployment of ours holds, sorted."""
    totals: tuple[GpuTotals, ...] | None = ledger.memo.get("totals")
    if totals is None:
        totals = ledger.memo["totals"] = _counted(ledger)
    return totals


def _counted(ledger: Ledger) -> tuple[GpuTotals, ...]:
    ours = [claim for claims in ledger.claims.values() for claim in claims if claim.owner and claim.gpus]
    found: dict[tuple[str, str], list[int]] = {}
    for resource in sorted({DEFAULT_RESOURCE, *(claim.resource_name for claim in ours)}):
        for view in ledger.capacity(None, resource):
            product = gpu_labels(view.node, resource).product or UNNAMED
            counts = found.setdefault((product, resource), [0, 0, 0, 0, 0])
            here = holders(ledger, view.node.name, resource)
            reserved = sum(holder.reserved for holder in here)
            promised = reserved + sum(holder.bound for holder in here)
            others = sum(holder.other for holder in here)
            for index, amount in enumerate((view.total, promised, view.free, reserved, others)):
                counts[index] += amount
    return tuple(GpuTotals(*key, *counts) for key, counts in sorted(found.items()))
