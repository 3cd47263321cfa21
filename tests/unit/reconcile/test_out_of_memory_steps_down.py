"""An end for want of memory leads to the next fallback, in status and Events; without one it is Stalled."""

from __future__ import annotations

import json
from typing import Any

from diffusion_operator.kube.resources import PODS
from unit.reconcile.worlds import World, demo, world

LARGE = {"shapes": [{"width": 1024, "height": 1024}]}


def end(made: World, reason: str | None, *, exit_code: int = 1, restarts: int = 1, **told: Any) -> None:
    """Every engine of the deployment has ended so, and is not ready."""
    message = (
        {"reason": reason, "message": "CUDA out of memory", "phase": "decode", **told} if reason else None
    )
    ended = {"exitCode": exit_code, "reason": "OOMKilled" if exit_code == 137 else "Error"}
    if message:
        ended["message"] = json.dumps(message)
    for (plural, *_), pod in made.cluster.objects.items():
        if plural == PODS.plural:
            pod["status"]["conditions"] = [{"type": "Ready", "status": "False"}]
            pod["status"]["containerStatuses"] = [
                {"name": "engine", "restartCount": restarts, "lastState": {"terminated": ended}}
            ]


async def serving(**performance: Any) -> World:
    made = world(4)
    made.cluster.submit(demo(workload=LARGE, performance={"device": "cpu", **performance}))
    await made.settle()
    return made


async def test_the_fallback_takes_over_and_says_so() -> None:
    made = await serving()
    first = made.status()["plan"]
    end(made, "CudaOutOfMemory", bytesAsked=3 << 30, bytesFree=1 << 30)
    await made.settle()
    plan = made.status()["plan"]
    assert plan["downgradedFrom"] == first["hash"]
    assert plan["hash"] != first["hash"]
    (entry,) = made.status()["history"]["downgrades"]
    assert (entry["planHash"], entry["toHash"], entry["reason"]) == (
        first["hash"], plan["hash"], "CudaOutOfMemory",
    )  # fmt: skip
    assert made.condition("Ready")["status"] == "True"
    degraded = made.condition("Degraded")
    assert (degraded["status"], degraded["reason"]) == ("True", "Downgraded")
    assert [e["reason"] for e in made.cluster.events.values()].count("Downgraded") == 1
    written = len(made.cluster.writes)
    made.restart_operator()
    await made.settle()
    assert made.writes_since(written) == []


async def test_the_engines_own_fallbacks_are_not_tried_again() -> None:
    made = await serving()
    first = made.status()["plan"]["hash"]
    config_map = made.cluster.objects["configmaps", "team", f"demo-h200-{first}"]
    fallbacks = json.loads(config_map["data"]["plan.json"])["fallbacks"]
    end(made, "CudaOutOfMemory", executingHash=fallbacks[2]["hash"])
    await made.settle()
    (entry,) = made.status()["history"]["downgrades"]
    assert entry["peakBytes"] == fallbacks[2]["peakPerGpuBytes"]


async def test_without_permission_it_is_stalled_with_the_numbers() -> None:
    made = await serving(allowDowngrade=False)
    first = made.status()["plan"]["hash"]
    end(made, "CudaOutOfMemory", bytesAsked=3221225472, bytesFree=1073741824)
    await made.settle()
    assert made.status()["plan"]["hash"] == first
    stalled = made.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "CudaOutOfMemory")
    assert "bytesAsked 3221225472, bytesFree 1073741824" in stalled["message"]
    assert made.condition("Ready")["status"] == "False"


async def test_a_recovery_ends_the_stall() -> None:
    made = await serving(allowDowngrade=False)
    end(made, "CudaOutOfMemory")
    await made.settle()
    for key in [key for key in made.cluster.objects if key[0] == PODS.plural]:
        del made.cluster.objects[key]
    made.cluster.run_controllers()
    await made.settle()
    assert made.condition("Stalled")["status"] == "False"
    assert made.condition("Ready")["status"] == "True"
    assert "failed" not in made.status()["history"]


async def test_a_container_killed_for_host_memory_gets_no_plan_that_needs_as_much() -> None:
    made = await serving()
    first = made.status()["plan"]["hash"]
    end(made, None, exit_code=137)
    await made.settle()
    assert made.status()["plan"]["hash"] == first
    stalled = made.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "HostOOMKilled")


async def test_an_engine_on_a_fallback_is_degraded_remembered_and_left_alone() -> None:
    made = await serving()
    first = made.status()["plan"]["hash"]
    config_map = made.cluster.objects["configmaps", "team", f"demo-h200-{first}"]
    fallback = json.loads(config_map["data"]["plan.json"])["fallbacks"][0]["hash"]
    (pod,) = made.cluster.names(PODS)
    made.cluster.executing[pod] = fallback
    await made.settle()
    assert made.status()["plan"]["hash"] == first
    assert made.cluster.names(PODS) == [pod]
    assert made.condition("Ready")["status"] == "True"
    assert made.condition("Degraded")["reason"] == "FallbackActive"
    (entry,) = made.status()["history"]["downgrades"]
    assert entry["planHash"] == first
