"""F11: children deleted or edited by hand, while the operator runs and while it is away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from builders.simulated_time import SimulatedLoop
from diffusion_operator.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    JsonObject,
    Resource,
)
from wire.faults.outcome import Case, Outcome
from wire.operators import Scene, scene, serving

RUNNING_S, STARTED_S = 5.0, 10.0
CHILDREN = (DEPLOYMENTS, SERVICES, CONFIG_MAPS, DISRUPTION_BUDGETS, SERVICE_ACCOUNTS)


def _unlabel(live: JsonObject) -> None:
    live["metadata"]["labels"] = {}


def _replicas(live: JsonObject) -> None:
    live["spec"]["replicas"] = 4


def _image(live: JsonObject) -> None:
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "by:hand"


def _selector(live: JsonObject) -> None:
    live["spec"]["selector"]["diffusion-operator.io/deployment"] = "another"


def _budget(live: JsonObject) -> None:
    live["spec"]["maxUnavailable"] = 0


def _token(live: JsonObject) -> None:
    live["automountServiceAccountToken"] = True


EDITS: dict[str, tuple[Resource, Callable[[JsonObject], None]]] = {
    **{f"{resource.kind} labels gone": (resource, _unlabel) for resource in CHILDREN},
    "Deployment replicas": (DEPLOYMENTS, _replicas),
    "Deployment image": (DEPLOYMENTS, _image),
    "Service selector": (SERVICES, _selector),
    "PodDisruptionBudget": (DISRUPTION_BUDGETS, _budget),
    "ServiceAccount token": (SERVICE_ACCOUNTS, _token),
}
DEEDS = (*(f"{resource.kind} deleted" for resource in CHILDREN), *EDITS)


def _do(here: Scene, deed: str) -> None:
    if deed in EDITS:
        resource, edit = EDITS[deed]
        edit(here.cluster.get_now(resource, here.cluster.names(resource)[0]))
    else:
        resource = next(one for one in CHILDREN if deed == f"{one.kind} deleted")
        here.cluster.version += 1
        del here.cluster.objects[resource.plural, "team", here.cluster.names(resource)[0]]
    here.api.touch()


def by_hand(deed: str, *, running: bool) -> Case:
    """One deed; the operator runs, or starts a minute later."""

    async def case(loop: SimulatedLoop) -> Outcome:
        async with scene(loop, 4) as here:
            await serving(here)
            expected = here.state()
            if not running:
                here.operator.kill()
            _do(here, deed)
            if not running:
                await asyncio.sleep(60.0)
                here.start()
            began_s = loop.time()
            while here.state() != expected and loop.time() - began_s < STARTED_S:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            restored_s = loop.time() - began_s
            here.expect(expected, "not put right")
            assert restored_s <= (RUNNING_S if running else STARTED_S)
            await here.rest()
            here.expect(expected)
            here.check()
            return Outcome(restored_s)

    return case
