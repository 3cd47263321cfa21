"""Whether pods fit on nodes as wholes, by counting alone: it shares no code with what packs them."""

from __future__ import annotations

from collections.abc import Mapping

SIZES = (8, 4, 2, 1)
"""GPUs of a pod and of a node; each divides the next larger one, which makes counting exact."""


def misfit(nodes: Mapping[int, int], pods: Mapping[int, int]) -> str:
    """One sentence when pods do not fit, else nothing. Both are counts by their number of GPUs.

    Pods of a size and larger ones fit when the nodes that are at least as large have as many GPUs: a hole of
    that size is left wherever so many GPUs are left.
    """
    strange = {size for size, count in (*nodes.items(), *pods.items()) if count} - set(SIZES)
    if strange:
        raise ValueError(f"sizes {sorted(strange)} are none of {SIZES}")
    for size in SIZES:
        wanted = sum(gpus * count for gpus, count in pods.items() if gpus >= size)
        there = sum(gpus * count for gpus, count in nodes.items() if gpus >= size)
        if wanted > there:
            said = {gpus: count for gpus, count in sorted(pods.items(), reverse=True) if count}
            return f"{said} (GPUs per pod: pods): pods of {size} GPUs and more have {wanted} of {there} GPUs"
    return ""
