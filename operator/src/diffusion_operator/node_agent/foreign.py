"""Works out *foreign* bytes: memory in use on a GPU that no pod holds.

While a pod holds a GPU its own memory cannot be told from other memory, because process ids of other
containers mean nothing here. The last number from before is kept, and lowered when less than that is used
in all. Pure: no clock, no NVML, no kubelet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from diffusion_operator.node_agent.host_memory import HostMemory
from diffusion_operator.node_agent.nvml import GpuReading, NvmlReading
from diffusion_operator.node_agent.pod_resources import Holders, PodName

NO_ONE: frozenset[PodName] = frozenset()


@dataclass(frozen=True)
class GpuObservation:
    """A reading, the pods that hold the GPU, and its foreign bytes (0 until it was seen without a pod)."""

    reading: GpuReading
    holders: frozenset[PodName] = NO_ONE
    foreign_bytes: int = 0


@dataclass(frozen=True)
class Observation:
    """All that one look at the node showed."""

    driver_version: str
    gpus: tuple[GpuObservation, ...]
    host: HostMemory | None = None


@dataclass
class ForeignMemory:
    """Remembers between looks what was foreign, and which GPUs were held a look ago."""

    known: dict[str, int] = field(default_factory=dict)
    held: frozenset[str] = frozenset()

    def observe(
        self, before: Holders, reading: NvmlReading, after: Holders, host: HostMemory | None = None
    ) -> Observation:
        """Put a reading together with the holders asked for before and after it.

        A GPU counts as held by nobody only if neither answer nor the last look names it: a pod that starts
        or ends between the questions, or whose memory the driver is still taking back, is not foreign.
        """
        held = frozenset(before) | frozenset(after)
        gpus = tuple(self._gpu(gpu, after.get(gpu.uuid, NO_ONE), held) for gpu in reading.gpus)
        self.held = held
        return Observation(reading.driver_version, gpus, host)

    def recall(self, foreign: Mapping[str, int]) -> None:
        """Take over what an earlier agent had measured, where this one has measured nothing yet."""
        self.known = {**foreign, **self.known}

    def _gpu(self, gpu: GpuReading, holders: frozenset[PodName], held: frozenset[str]) -> GpuObservation:
        if gpu.memory is None or gpu.mig:
            # Slices have memory of their own, which the labels tell.
            return GpuObservation(gpu, holders)
        used = gpu.memory.used_bytes
        if gpu.uuid in held or gpu.uuid in self.held:
            foreign = min(self.known.get(gpu.uuid, 0), used)
        else:
            foreign = used
        self.known[gpu.uuid] = foreign
        return GpuObservation(gpu, holders, foreign)
