"""The oracle of "no GPU is promised twice": all statuses together must fit on the nodes as whole pods."""

from __future__ import annotations

from collections import Counter

from diffusion_operator.inventory.claims import pack
from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS
from unit.reconcile.fakecluster import GPU, FakeCluster


def overpromised(cluster: FakeCluster) -> str:
    """One sentence when the promises do not fit, else nothing.

    Largest pods first: exact where each size divides the next larger one, as 1, 2, 4 and 8 do.
    """
    free = {
        name: int(node["status"]["allocatable"][GPU])
        for (plural, _, name), node in cluster.objects.items()
        if plural == "nodes"
    }
    promised: Counter[int] = Counter()
    for (plural, _, _), obj in cluster.objects.items():
        if plural == DIFFUSION_DEPLOYMENTS.plural:
            for placement in (obj.get("status") or {}).get("placements", ()):
                promised[placement["gpusPerReplica"]] += placement["replicas"]
    for gpus, replicas in sorted(promised.items(), reverse=True):
        places = Counter(pack(free, gpus, replicas))
        if places.total() < replicas:
            return f"statuses promise {dict(promised)} (GPUs per pod: pods)"
        free = {name: amount - gpus * places[name] for name, amount in free.items()}
    return ""
