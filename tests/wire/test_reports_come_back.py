"""A whole operator at rest asks its engines now and then, writes what they measured, and nothing else."""

from __future__ import annotations

import asyncio

from builders.simulated_time import SimulatedLoop, simulate
from diffusion_operator.kube.resources import PODS
from diffusion_operator.reconcile.story import MEASURED_RECHECK_S
from diffusion_runtime.planning.documents import PhaseMeasurement
from unit.reconcile.worlds import demo
from wire.operators import dd_status, scene

LATEST_S = 1.15 * MEASURED_RECHECK_S + 5.0
GIB = 1 << 30


async def measured_while_at_rest(loop: SimulatedLoop) -> None:
    async with scene(loop, 4) as here:
        here.start()
        here.submit(demo())
        await here.rest()
        (pod,) = here.cluster.names(PODS)
        written = here.api.writes
        await asyncio.sleep(1.0)
        here.cluster.measured[pod] = {"phases": {"denoise": PhaseMeasurement(driver_bytes=3 * GIB)}}
        await asyncio.sleep(LATEST_S)
        assert dd_status(here)["observed"]["peakPerGPU"] == "3.0GiB"
        assert here.api.writes == written + 1

        here.cluster.measured[pod] = {"phases": {"denoise": PhaseMeasurement(driver_bytes=3 * GIB + 1)}}
        written, before = here.api.writes, len(here.api.asked)
        await asyncio.sleep(LATEST_S)
        assert here.api.writes == written
        # What a deployment itself costs, the resync's lists aside: nothing is read of the API server.
        asked = [one.path for one, _ in here.api.asked[before:]]
        assert [path for path in asked if "/namespaces/" in path] == []
        here.check()


def test_a_measurement_is_seen_without_any_event_and_costs_one_write() -> None:
    simulate(measured_while_at_rest)
