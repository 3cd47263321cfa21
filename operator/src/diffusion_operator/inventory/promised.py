"""What a status promises, as the Deployment that it speaks of. Pure.

A status that still promises more than its Deployment keeps those GPUs too, so no two statuses ever promise
one GPU. Operator and plugin count by this one rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from diffusion_operator.inventory.objects import DEFAULT_RESOURCE, ManagedDeployment


def gpus_of(deployment: ManagedDeployment) -> int:
    """GPUs of all its replicas."""
    return deployment.replicas * deployment.gpus_per_pod


def as_promised(
    placement: Mapping[str, Any], known: ManagedDeployment | None, owner: tuple[str, str]
) -> ManagedDeployment:
    """The Deployment that a placement of the status speaks of: `known` where that asks for no less."""
    replicas, gpus = int(placement.get("replicas", 0)), int(placement.get("gpusPerReplica", 0))
    promised = (replicas - int(placement.get("waitingForNodes", 0))) * gpus
    if known is not None:
        known = replace(known, promised_gpus=promised)
        return (
            replace(known, replicas=replicas, gpus_per_pod=gpus)
            if replicas * gpus > gpus_of(known)
            else known
        )
    group = str(placement.get("group", ""))
    # The Deployment is gone and the status not yet written: counted anywhere, for the moment that it lasts.
    return ManagedDeployment(
        "/".join(owner),
        f"{owner[1]}-{group}",
        group,
        replicas,
        DEFAULT_RESOURCE,
        gpus,
        "",
        promised_gpus=promised,
    )
