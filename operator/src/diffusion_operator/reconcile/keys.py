"""What the queue carries: names, never objects, so that every reconcile reads fresh."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class DeploymentKey:
    """One DiffusionDeployment."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class CapacityKey:
    """GPUs may have come or gone: everyone who waits is to look again."""

    def __str__(self) -> str:
        return "capacity"


Key = DeploymentKey | CapacityKey
CAPACITY = CapacityKey()
