"""A roll-out that is not ready in time goes back, says so once, and a new operator process knows it too."""

from __future__ import annotations

import pytest

from diffusion_operator.kube.resources import CONFIG_MAPS, DEPLOYMENTS, PODS, JsonObject
from unit.reconcile.worlds import World, demo, world

DEADLINE = {"progressDeadlineSeconds": 300}


def engine_of(made: World) -> JsonObject:
    spec = made.cluster.get_now(DEPLOYMENTS, "demo-h200")["spec"]["template"]["spec"]
    return dict(spec["containers"][0])


def reasons(made: World) -> list[str]:
    return [event["reason"] for event in made.cluster.events.values()]


async def serving(**spec: object) -> World:
    made = world(4)
    made.cluster.submit(demo(rollout=DEADLINE, **spec))
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    return made


async def changed_to_a_plan_that_fails() -> tuple[World, str, str]:
    """Two GPUs instead of one; engines of the new plan never become ready."""
    made = await serving()
    good = made.status()["plan"]["hash"]
    made.cluster.engines_ready = False
    made.cluster.submit(demo(gpus=2, rollout=DEADLINE))
    await made.settle()
    bad = made.status()["plan"]["hash"]
    assert bad != good
    made.cluster.unready, made.cluster.engines_ready = {bad}, True
    return made, good, bad


@pytest.mark.parametrize("restart", [False, True])
async def test_after_the_deadline_the_last_ready_plan_returns(restart: bool) -> None:
    made, good, bad = await changed_to_a_plan_that_fails()
    made.seconds += 299
    outcome = await made.reconcile()
    assert made.status()["plan"]["hash"] == bad
    assert outcome.recheck_after_s is not None
    assert outcome.recheck_after_s <= 1
    made.seconds += 2
    if restart:
        made.restart_operator()
    await made.settle()
    status = made.status()
    assert status["plan"]["hash"] == good
    assert status["history"]["failed"][0]["planHash"] == bad
    for kind, value in (
        ("Ready", "False"),
        ("Stalled", "True"),
        ("Degraded", "True"),
        ("Reconciling", "False"),
    ):
        found = made.condition(kind)
        assert (kind, found["status"], found["reason"]) == (
            kind,
            value,
            "RolledBack" if value == "True" or kind == "Ready" else found["reason"],
        )
    message = made.condition("Degraded")["message"]
    assert message.startswith(f"plan {bad} failed (Progressing): no pod became ready within 300 s")
    assert "1 of 1 replica of plan" in message
    assert reasons(made).count("RolledBack") == 1


async def test_it_is_not_tried_again_and_costs_no_writes() -> None:
    made, good, _ = await changed_to_a_plan_that_fails()
    made.seconds += 301
    await made.settle()
    written = len(made.cluster.writes)
    for _ in range(3):
        made.restart_operator()
        made.seconds += 3600
        await made.settle()
    assert made.status()["plan"]["hash"] == good
    assert made.writes_since(written) == []


async def test_a_new_spec_is_a_new_try_and_clears_the_memory() -> None:
    made, _, bad = await changed_to_a_plan_that_fails()
    made.seconds += 301
    await made.settle()
    made.cluster.unready.clear()
    made.cluster.submit(demo(gpus=2, rollout=DEADLINE, workload={"guidance": "on"}))
    await made.settle()
    status = made.status()
    assert made.condition("Ready")["status"] == "True"
    assert made.condition("Degraded")["status"] == "False"
    assert status["plan"]["gpusPerReplica"] == 2
    assert "failed" not in status["history"]
    assert status["history"]["lastReady"][0]["planHash"] == status["plan"]["hash"] == bad


async def test_the_plan_to_go_back_to_is_kept_until_another_one_is_ready() -> None:
    made, good, bad = await changed_to_a_plan_that_fails()
    # Even when no ReplicaSet names it any more.
    for key in [key for key in made.cluster.objects if key[0] == "replicasets"]:
        del made.cluster.objects[key]
    await made.settle()
    assert f"demo-h200-{good}" in made.cluster.names(CONFIG_MAPS)
    made.cluster.unready.clear()
    made.cluster.engines_ready = True
    for key in [key for key in made.cluster.objects if key[0] in ("pods", "replicasets")]:
        del made.cluster.objects[key]
    made.cluster.run_controllers()
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    for key in [key for key in made.cluster.objects if key[0] == "replicasets"]:
        del made.cluster.objects[key]
    made.cluster.run_controllers()
    await made.settle()
    assert made.cluster.names(CONFIG_MAPS) == [f"demo-h200-{bad}"]


async def test_an_engine_image_that_cannot_start_leaves_the_old_one_serving() -> None:
    made = await serving()
    made.cluster.unready = {"engine:broken"}
    made.restart_operator(image="engine:broken")
    await made.settle()
    assert engine_of(made)["image"] == "engine:broken"
    made.seconds += 301
    await made.settle()
    assert engine_of(made)["image"] == "engine:test"
    # The spec is served as it was asked for; only the engine is not the wanted one.
    assert made.condition("Ready")["status"] == "True"
    assert made.condition("Stalled")["status"] == "False"
    assert (made.condition("Degraded")["status"], made.condition("Degraded")["reason"]) == (
        "True",
        "RolledBack",
    )
    made.restart_operator(image="engine:mended")
    await made.settle()
    assert engine_of(made)["image"] == "engine:mended"
    assert made.condition("Degraded")["status"] == "False"


async def test_a_final_refusal_of_the_engine_is_not_waited_for() -> None:
    made, good, _ = await changed_to_a_plan_that_fails()
    for (plural, *_), pod in made.cluster.objects.items():
        if plural == PODS.plural:
            ended = {"exitCode": 2, "message": '{"reason": "NoUsableGpu", "message": "torch sees no GPU"}'}
            pod["status"]["containerStatuses"] = [
                {"name": "engine", "restartCount": 1, "state": {"terminated": ended}}
            ]
    await made.settle()
    assert made.status()["plan"]["hash"] == good
    assert "torch sees no GPU" in made.condition("Stalled")["message"]


async def test_a_first_plan_that_never_serves_is_stalled_with_nothing_to_go_back_to() -> None:
    made = world(4)
    made.cluster.engines_ready = False
    made.cluster.submit(demo(rollout=DEADLINE))
    await made.settle()
    digest = made.status()["plan"]["hash"]
    made.seconds += 3600
    await made.settle()
    assert made.status()["plan"]["hash"] == digest
    assert "history" not in made.status()


async def test_loading_that_gets_on_is_waited_for_however_long_it_takes() -> None:
    made, good, bad = await changed_to_a_plan_that_fails()
    (pod,) = made.cluster.names(PODS)
    made.cluster.idle[pod] = 20.0
    for _ in range(10):
        made.seconds += 600
        await made.settle()
        assert made.status()["plan"]["hash"] == bad
        assert made.condition("Stalled")["status"] == "False"
    assert (await made.reconcile()).recheck_after_s == pytest.approx(280)
    made.cluster.idle[pod] = 301.0
    await made.settle()
    assert made.status()["plan"]["hash"] == good


async def test_restarts_of_a_crashing_container_are_no_progress() -> None:
    made, good, bad = await changed_to_a_plan_that_fails()
    for second in range(0, 301, 60):
        made.seconds = second
        for (plural, *_), pod in made.cluster.objects.items():
            if plural == PODS.plural:
                started = made.stamp()
                pod["status"]["containerStatuses"] = [
                    {
                        "name": "engine",
                        "restartCount": 1 + second // 60,
                        "state": {"running": {"startedAt": started}},
                    }
                ]
        await made.settle()
        assert made.status()["plan"]["hash"] == (bad if second < 300 else good)
