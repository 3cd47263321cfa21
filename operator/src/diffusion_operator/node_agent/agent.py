"""The agent's loop: look at the node, and write the GPUNode when that is worth a write.

What cannot be read now is said on /readyz and in the log, and asked again at the next look; the last report
stays, and stops to count as soon as this pod is not Ready. Only a missing library ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from diffusion_operator.kube.client import KubeClient
from diffusion_operator.kube.errors import ApiError, NotFound
from diffusion_operator.kube.resources import GPU_NODES, NODES
from diffusion_operator.node_agent.foreign import ForeignMemory, Observation
from diffusion_operator.node_agent.host_memory import HostMemory, read_host_memory
from diffusion_operator.node_agent.nvml import NvmlReading, NvmlUnavailable
from diffusion_operator.node_agent.pod_resources import Holders, KubeletSilent
from diffusion_operator.node_agent.report import Identity, age_s, earlier_foreign, gpu_node_manifest
from diffusion_operator.node_agent.writes import LEAST_SECONDS_BETWEEN_WRITES, worth_a_write

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
CHECK_EVERY_S = 600.0
READY_GRACE_S = 30.0
LIVE_LIMIT_S = 120.0


class ReadsGpus(Protocol):
    """What the agent asks of NVML."""

    def read(self) -> NvmlReading:
        """Raises NvmlMissing, NvmlUnavailable."""
        ...


class KnowsHolders(Protocol):
    """What the agent asks of the kubelet."""

    def holders(self) -> Holders:
        """Raises KubeletSilent."""
        ...


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


class Agent:
    """One instance for the process. `step` is one look; `run` repeats it for ever."""

    def __init__(
        self,
        client: KubeClient,
        gpus: ReadsGpus,
        kubelet: KnowsHolders,
        identity: Identity,
        *,
        host: Callable[[], HostMemory | None] = read_host_memory,
        now: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._gpus = gpus
        self._kubelet = kubelet
        self._identity = identity
        self._host = host
        self._now = now
        self._monotonic = monotonic
        self._foreign = ForeignMemory()
        self._written: Observation | None = None
        self._tried_s: float | None = None
        self._refused = False
        self._checked_s: float | None = None
        self._looking_since_s: float | None = None
        self._well_s: float | None = None
        self._problem: str | None = "it has not looked at the node yet"

    async def run(self) -> None:
        """Look until cancelled. Raises NvmlMissing."""
        while True:
            await self.step()
            await asyncio.sleep(LOOK_EVERY_S)

    async def step(self) -> None:
        """One look at the node and, when it is due, one write. Raises NvmlMissing."""
        try:
            if self._checked_s is None or self._monotonic() - self._checked_s >= CHECK_EVERY_S:
                await self._read_own_report()
            self._looking_since_s = self._monotonic()
            observation = await asyncio.to_thread(self._look)
            self._looking_since_s = None
            published = await self._publish(observation)
        except (NvmlUnavailable, KubeletSilent) as error:
            self._say(str(error))
        except NotFound as error:
            self._say(f"the node or the kind GPUNode is not in the cluster: {error}")
        except ApiError as error:
            self._say(f"the report could not be written: {error}")
        else:
            if published:
                self._say(None)
        finally:
            self._looking_since_s = None

    def not_ready(self) -> str | None:
        """Why the report must not count, None when it may. A short problem does not take it away."""
        if self._well_s is not None and self._monotonic() - self._well_s <= READY_GRACE_S:
            return None
        return self._problem or "the last good look is too long ago"

    def stuck(self) -> str | None:
        """Why the process should be restarted: a driver that never answers keeps its caller for ever."""
        if self._looking_since_s is None:
            return None
        silent_s = self._monotonic() - self._looking_since_s
        return f"a look at the node has not ended for {silent_s:.0f} s" if silent_s > LIVE_LIMIT_S else None

    def _look(self) -> Observation:
        # The order matters: the kubelet is asked on both sides of NVML, see ForeignMemory.observe.
        before = self._kubelet.holders()
        reading = self._gpus.read()
        after = self._kubelet.holders()
        return self._foreign.observe(before, reading, after, self._host())

    async def _read_own_report(self) -> None:
        """At the start take over from the last agent, its write time included; later notice a lost report."""
        try:
            live = await self._client.get(GPU_NODES, self._identity.node)
        except NotFound:
            self._written = None
        else:
            status = live.get("status") or {}
            if (status.get("reporter") or {}).get("uid") != self._identity.pod_uid:
                self._written = None
            if self._checked_s is None:
                self._foreign.recall(earlier_foreign(status))
                age = age_s(status, self._now())
                if age is not None and 0 <= age < LEAST_SECONDS_BETWEEN_WRITES:
                    self._tried_s = self._monotonic() - age
        self._checked_s = self._monotonic()

    async def _publish(self, observation: Observation) -> bool:
        """Whether the cluster holds a report of this agent. At most one try in 30 s, failed ones included."""
        why = worth_a_write(self._written, observation)
        now_s = self._monotonic()
        waiting = self._tried_s is not None and now_s - self._tried_s < LEAST_SECONDS_BETWEEN_WRITES
        # A due write that failed keeps its problem until it succeeds or is not due any more.
        self._refused = self._refused and why is not None
        if why is None or waiting:
            return self._written is not None and not self._refused
        self._tried_s, self._refused = now_s, True
        node = await self._client.get(NODES, self._identity.node)
        uid = str(node["metadata"]["uid"])
        await self._client.apply(gpu_node_manifest(observation, self._identity, uid, self._now()))
        self._written, self._refused = observation, False
        logger.info("report written: %s", why)
        return True

    def _say(self, problem: str | None) -> None:
        """Log a problem once, not at every look."""
        if problem is None:
            self._well_s = self._monotonic()
            if self._problem is not None:
                logger.info("all is read again")
        elif problem != self._problem:
            logger.warning("%s", problem)
        self._problem = problem
