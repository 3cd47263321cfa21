"""A pod that is ready between two crashes does not make the deployment Ready."""

from __future__ import annotations

import pytest

from diffusion_operator.kube.resources import PODS
from unit.reconcile.worlds import World, demo, world


def crashed(made: World, *, restarts: int, seconds_ago: float) -> None:
    """The engine ended some seconds ago and is ready again."""
    ended = {"exitCode": 1, "finishedAt": made.stamp(seconds_ago), "message": "Traceback: boom"}
    for (plural, *_), pod in made.cluster.objects.items():
        if plural == PODS.plural:
            pod["status"]["containerStatuses"] = [
                {
                    "name": "engine",
                    "ready": True,
                    "restartCount": restarts,
                    "lastState": {"terminated": ended},
                }
            ]


@pytest.mark.parametrize(
    ("restarts", "seconds_ago", "ready"), [(1, 5, True), (2, 5, False), (5, 599, False), (5, 601, True)]
)
async def test_ready_again_is_believed_after_ten_quiet_minutes(
    restarts: int, seconds_ago: float, ready: bool
) -> None:
    made = world(2)
    made.cluster.submit(demo())
    await made.settle()
    crashed(made, restarts=restarts, seconds_ago=seconds_ago)
    outcome = await made.reconcile()
    found = made.condition("Ready")
    assert (found["status"] == "True") is ready
    if not ready:
        assert found["reason"] == "CrashLoop"
        assert f"after {restarts} restarts: Traceback: boom" in found["message"]
        # Not later; earlier where what engines measure is looked at anyway.
        assert outcome.recheck_after_s is not None
        assert 0 < outcome.recheck_after_s <= 600 - seconds_ago + 0.001


async def test_the_other_replica_still_serves() -> None:
    made = world(2)
    made.cluster.submit(demo(replicas=2))
    await made.settle()
    crashed(made, restarts=3, seconds_ago=5)
    first = made.cluster.names(PODS)[0]
    del made.cluster.objects[PODS.plural, "team", first]["status"]["containerStatuses"]
    await made.reconcile()
    assert made.condition("Ready")["status"] == "True"
    assert (made.condition("Degraded")["status"], made.condition("Degraded")["reason"]) == (
        "True",
        "CrashLoop",
    )
