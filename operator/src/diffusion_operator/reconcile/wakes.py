"""Which change in the mirror wakes whom. Keys only; what the change means is found out by the reconcile."""

from __future__ import annotations

from typing import Any, Protocol

from diffusion_operator.inventory.gpu_nodes import GpuNodeReport
from diffusion_operator.inventory.objects import Pod
from diffusion_operator.kube.resources import (
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    GPU_NODES,
    JOBS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    REPLICA_SETS,
    RESOURCE_QUOTAS,
    Resource,
)
from diffusion_operator.reconcile.keys import CAPACITY, DeploymentKey, Key
from diffusion_operator.reconcile.mirror import Entry, Identity


class Bell(Protocol):
    """Whom to tell, and how urgent it is; `hints.Hints` in the process."""

    def now(self, key: Key) -> None: ...

    def soon(self, key: Key) -> None: ...

    def changed(self, key: Key) -> None: ...

    def renewed(self, key: Key) -> None: ...


# Of these the reconcile reads the status; of the others it wrote every field that it reads.
_STATUS_READ = (DEPLOYMENTS, JOBS, PODS)
_CAPACITY = (NODES, GPU_NODES, RESOURCE_QUOTAS, PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES)


class Wakes:
    """A listener of the mirror that puts keys on the queue. No namespaces means all."""

    def __init__(self, bell: Bell, namespaces: tuple[str, ...] = ()) -> None:
        self._bell = bell
        self._namespaces = namespaces
        self._agents: dict[Identity, str] = {}  # uid of the pod that wrote each GPUNode

    def __call__(
        self, resource: Resource, identity: Identity, before: Entry | None, after: Entry | None, own: bool
    ) -> None:
        if resource is GPU_NODES:
            self._note_agent(identity, after)
        if resource in _CAPACITY:
            if (before and before.view) != (after and after.view):
                self._bell.now(CAPACITY)
            return
        if resource is DIFFUSION_DEPLOYMENTS:
            self._deployment(identity, before, after)
        elif not own:
            self._child(resource, before, after)
        if resource is PODS and (
            (_holds_gpus(before) and not _holds_gpus(after)) or self._agent_turned(before, after)
        ):
            self._bell.now(CAPACITY)

    def _note_agent(self, identity: Identity, after: Entry | None) -> None:
        report = after.view if after is not None else None
        if isinstance(report, GpuNodeReport):
            self._agents[identity] = report.reporter_uid
        else:
            self._agents.pop(identity, None)

    def _agent_turned(self, before: Entry | None, after: Entry | None) -> bool:
        """Whether the pod of a node agent became ready or ceased to be, so that its report counts or not."""
        entry = after or before
        if entry is None or entry.uid not in self._agents.values():
            return False
        return _is_ready(before) != _is_ready(after)

    def _deployment(self, identity: Identity, before: Entry | None, after: Entry | None) -> None:
        # Only we write the status. The answer to that write may bring a spec that changed meanwhile.
        if self._concerns(identity) and _differs(before, after, ("status",)):
            key = DeploymentKey(*identity)
            if before is None or after is None or before.uid != after.uid:
                self._bell.renewed(key)
            elif _generation(before) != _generation(after):
                self._bell.changed(key)
            else:
                self._bell.now(key)
        if after is None or _placements(before) != _placements(after):
            self._bell.now(CAPACITY)

    def _child(self, resource: Resource, before: Entry | None, after: Entry | None) -> None:
        if resource is REPLICA_SETS and before is not None and after is not None:
            return  # read only for the plans it names, and its template never changes
        if _differs(before, after, () if resource in _STATUS_READ else ("status",)):
            for owner in {entry.owner for entry in (before, after) if entry is not None and entry.owner}:
                if self._concerns(owner):
                    self._bell.soon(DeploymentKey(*owner))

    def _concerns(self, identity: Identity) -> bool:
        return not self._namespaces or identity[0] in self._namespaces


def _differs(before: Entry | None, after: Entry | None, without: tuple[str, ...]) -> bool:
    if before is None or after is None or before.uid != after.uid:
        return True
    return _content(before, without) != _content(after, without)


def _content(entry: Entry, without: tuple[str, ...]) -> dict[str, Any]:
    raw = {key: value for key, value in (entry.raw or {}).items() if key not in without}
    metadata = raw.get("metadata", {})
    raw["metadata"] = {key: value for key, value in metadata.items() if key != "resourceVersion"}
    return raw


def _generation(entry: Entry) -> Any:
    return (entry.raw or {}).get("metadata", {}).get("generation")


def _holds_gpus(entry: Entry | None) -> bool:
    pod = entry.view if entry is not None else None
    return isinstance(pod, Pod) and pod.node is not None and not pod.terminal and bool(pod.extended)


def _is_ready(entry: Entry | None) -> bool:
    pod = entry.view if entry is not None else None
    return isinstance(pod, Pod) and pod.ready and not pod.terminating and not pod.terminal


def _placements(entry: Entry | None) -> Any:
    status = ((entry.raw or {}).get("status") or {}) if entry is not None else {}
    return status.get("placements") or []
