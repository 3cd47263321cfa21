"""An observation -> the GPUNode that says it, and back what a successor needs of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from diffusion_operator.api.gpu_node import (
    GPU_NODE_KIND,
    MAX_GPUS,
    GPUNodeStatus,
    GPUReport,
    HostMemoryReport,
    PcieReport,
    PodReference,
    Reporter,
)
from diffusion_operator.api.names import GROUP_VERSION
from diffusion_operator.node_agent.foreign import GpuObservation, Observation
from diffusion_operator.node_agent.nvml import Links
from diffusion_runtime.planning.units import format_bytes


@dataclass(frozen=True)
class Identity:
    """The node, and the agent pod that reports it."""

    node: str
    namespace: str
    pod: str
    pod_uid: str


def gpu_node_manifest(
    observation: Observation, identity: Identity, node_uid: str, now: datetime
) -> dict[str, Any]:
    """The whole object, owned by its Node so that both go together."""
    owner = {"apiVersion": "v1", "kind": "Node", "name": identity.node, "uid": node_uid}
    return {
        "apiVersion": GROUP_VERSION,
        "kind": GPU_NODE_KIND,
        "metadata": {"name": identity.node, "ownerReferences": [owner]},
        "status": _status(observation, identity, now).to_dict(),
    }


def earlier_foreign(status: Mapping[str, Any]) -> dict[str, int]:
    """Foreign bytes by GPU of a report that an earlier agent wrote."""
    return {
        str(gpu["uuid"]): int(gpu["foreignBytes"])
        for gpu in status.get("gpus") or ()
        if "uuid" in gpu and "foreignBytes" in gpu
    }


def age_s(status: Mapping[str, Any], now: datetime) -> float | None:
    """Seconds since a report was written; None when it does not say so."""
    try:
        written = datetime.fromisoformat(str(status.get("observedTime", "")))
    except ValueError:
        return None
    return (now - written).total_seconds() if written.tzinfo else None


def _status(observation: Observation, identity: Identity, now: datetime) -> GPUNodeStatus:
    gpus = observation.gpus[:MAX_GPUS]
    host = observation.host
    return GPUNodeStatus(
        observed_time=now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        reporter=Reporter(namespace=identity.namespace, name=identity.pod, uid=identity.pod_uid),
        driver_version=observation.driver_version,
        gpu_count=len(observation.gpus),
        free_gpus=sum(1 for gpu in gpus if gpu.reading.problem is None and not gpu.holders),
        foreign=format_bytes(sum(gpu.foreign_bytes for gpu in gpus)),
        host_memory=HostMemoryReport(total_bytes=host.total_bytes, free_bytes=host.free_bytes)
        if host
        else None,
        gpus=tuple(map(_gpu, gpus)),
    )


def _gpu(gpu: GpuObservation) -> GPUReport:
    reading = gpu.reading
    memory = reading.memory
    holders = tuple(PodReference(namespace=p.namespace, name=p.name) for p in sorted(gpu.holders)[:64])
    return GPUReport(
        index=reading.index,
        uuid=reading.uuid or None,
        product=reading.product[:128] or None,
        total_bytes=memory.total_bytes if memory else None,
        reserved_bytes=memory.reserved_bytes if memory else None,
        used_bytes=memory.used_bytes if memory else None,
        foreign_bytes=gpu.foreign_bytes if memory and not reading.mig else None,
        held_by=holders or None,
        mig=True if reading.mig else None,
        pcie=_pcie(reading.links),
        nvlink_peers=reading.links.nvlink_peers or None,
        problem=reading.problem[:512] if reading.problem else None,
    )


def _pcie(links: Links) -> PcieReport | None:
    # NVML answers 0 for a link that it cannot see, as inside some virtual machines.
    report = PcieReport(
        generation=links.pcie_generation or None,
        width=links.pcie_width or None,
        max_width=links.pcie_max_width or None,
    )
    return report if report.to_dict() else None
