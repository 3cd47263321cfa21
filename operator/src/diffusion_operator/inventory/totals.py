"""GPUs of the whole cluster by product, for people and their dashboards. No decision is made from it."""

from __future__ import annotations

from dataclasses import dataclass

from diffusion_operator.inventory.hardware import gpu_labels
from diffusion_operator.inventory.ledger import Ledger

DEFAULT_RESOURCE = "nvidia.com/gpu"
UNNAMED = "unlabelled"


@dataclass(frozen=True)
class GpuTotals:
    """GPUs of one product. `promised` are held or reserved by deployments of ours, `free` by nobody."""

    product: str
    resource: str
    allocatable: int
    promised: int
    free: int


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
        promised: dict[str, int] = {}
        for claim in ours:
            if claim.resource_name == resource:
                promised[claim.node] = promised.get(claim.node, 0) + claim.gpus
        for view in ledger.capacity(None, resource):
            product = gpu_labels(view.node, resource).product or UNNAMED
            counts = found.setdefault((product, resource), [0, 0, 0])
            for index, amount in enumerate((view.total, promised.get(view.node.name, 0), view.free)):
                counts[index] += amount
    return tuple(GpuTotals(*key, *counts) for key, counts in sorted(found.items()))
