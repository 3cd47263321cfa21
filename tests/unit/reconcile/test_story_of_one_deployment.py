"""From a spec to serving children, and what happens to them afterwards."""

from __future__ import annotations

import pytest

from diffusion_operator.kube.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    PODS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from diffusion_operator.reconcile.story import MEASURED_RECHECK_S
from unit.reconcile.fakecluster import Killed
from unit.reconcile.worlds import World, demo, world


async def serving(gpus: int = 2) -> World:
    """One replica that serves."""
    made = world(gpus)
    made.cluster.submit(demo())
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    return made


async def test_a_spec_becomes_serving_children_and_a_status_that_says_so() -> None:
    made = await serving()
    cluster = made.cluster
    assert cluster.names(DEPLOYMENTS) == ["demo-h200"]
    assert (
        cluster.names(SERVICES)
        == cluster.names(SERVICE_ACCOUNTS)
        == cluster.names(DISRUPTION_BUDGETS)
        == ["demo"]
    )
    status = made.status()
    digest = status["plan"]["hash"]
    assert cluster.names(CONFIG_MAPS) == [f"demo-h200-{digest}"]
    assert (status["replicas"], status["readyReplicas"], status["updatedReplicas"]) == (1, 1, 1)
    assert status["selector"] == "diffusion-operator.io/deployment=demo"
    assert status["url"] == "http://demo.team.svc"
    assert status["observedGeneration"] == 1
    assert status["placements"] == [
        {
            "group": "h200",
            "gpusPerReplica": 1,
            "replicas": 1,
            "planHash": digest,
            "product": "NVIDIA-H200",
            "layoutSummary": "1 GPU",
            "peakPerGPU": status["plan"]["peakPerGPU"],
        }
    ]
    for kind in (DEPLOYMENTS, SERVICES, CONFIG_MAPS, SERVICE_ACCOUNTS, DISRUPTION_BUDGETS):
        for name in cluster.names(kind):
            metadata = cluster.get_now(kind, name)["metadata"]
            assert metadata["ownerReferences"][0]["controller"] is True
            assert "finalizers" not in metadata


async def test_the_first_pass_already_says_what_was_decided() -> None:
    made = world(2)
    made.cluster.submit(demo())
    await made.reconcile()
    assert made.condition("Planned")["status"] == "True"
    assert (made.condition("Ready")["status"], made.condition("Ready")["reason"]) == ("False", "Progressing")
    assert made.condition("Reconciling")["status"] == "True"
    assert [event["reason"] for event in made.cluster.events.values()] == ["Planned"]


async def test_when_nothing_changes_nothing_is_written() -> None:
    made = await serving()
    written, events = len(made.cluster.writes), len(made.cluster.events)
    for restart in (False, True):
        if restart:
            made.restart_operator()
        made.seconds += 600
        outcome = await made.reconcile()
        assert outcome.recheck_after_s == pytest.approx(MEASURED_RECHECK_S, rel=0.16)
    assert made.writes_since(written) == []
    assert len(made.cluster.events) == events


@pytest.mark.parametrize("resource", [DEPLOYMENTS, SERVICES, SERVICE_ACCOUNTS, DISRUPTION_BUDGETS])
async def test_a_child_deleted_by_hand_comes_back(resource: object) -> None:
    made = await serving()
    expected = made.cluster.state()
    made.cluster.remove(resource, made.cluster.names(resource)[0])  # type: ignore[arg-type]
    await made.settle()
    assert made.cluster.state() == expected


async def test_a_child_edited_by_hand_is_put_right_with_one_write() -> None:
    made = await serving()
    expected = made.cluster.state()
    made.cluster.get_now(DEPLOYMENTS, "demo-h200")["spec"]["replicas"] = 7
    made.cluster.get_now(SERVICES, "demo")["spec"]["selector"]["by"] = "hand"
    written = len(made.cluster.writes)
    await made.reconcile()
    assert sorted(made.writes_since(written))[:2] == [
        ("apply", "Deployment", "demo-h200"),
        ("apply", "Service", "demo"),
    ]
    await made.settle()
    assert made.cluster.state() == expected


async def test_fields_that_others_add_are_left_alone() -> None:
    made = await serving()
    live = made.cluster.get_now(DEPLOYMENTS, "demo-h200")
    live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = "1"
    live["spec"]["revisionHistoryLimitByMutation"] = 3
    written = len(made.cluster.writes)
    await made.reconcile()
    assert made.writes_since(written) == []


async def test_scaling_changes_the_deployment_and_the_counts() -> None:
    made = await serving(gpus=4)
    made.cluster.submit(demo(replicas=3))
    await made.settle()
    assert made.cluster.get_now(DEPLOYMENTS, "demo-h200")["spec"]["replicas"] == 3
    assert (made.status()["replicas"], made.condition("Ready")["message"]) == (3, "3 of 3 replicas ready")
    made.cluster.submit(demo(replicas=0))
    await made.settle()
    assert made.cluster.names(PODS) == []
    assert (made.condition("Ready")["status"], made.condition("Ready")["reason"]) == ("False", "Suspended")


async def test_a_new_plan_rolls_the_pods_and_keeps_the_plan_that_replica_sets_name() -> None:
    made = await serving(gpus=2)
    old = made.status()["plan"]["hash"]
    made.cluster.submit(demo(gpus=2))
    await made.settle()
    new = made.status()["plan"]["hash"]
    assert new != old
    assert made.cluster.names(CONFIG_MAPS) == sorted([f"demo-h200-{old}", f"demo-h200-{new}"])
    assert made.condition("Ready")["status"] == "True"
    made.cluster.objects = {
        key: obj
        for key, obj in made.cluster.objects.items()
        if not (key[0] == "replicasets" and old in str(obj["spec"]))
    }
    await made.settle()
    assert made.cluster.names(CONFIG_MAPS) == [f"demo-h200-{new}"]


async def test_suspend_keeps_the_plan_and_removes_the_pods() -> None:
    made = await serving()
    made.cluster.submit(demo(suspend=True))
    await made.settle()
    assert made.cluster.names(DEPLOYMENTS) == made.cluster.names(PODS) == []
    assert made.status()["plan"]["gpusPerReplica"] == 1
    assert made.condition("Ready")["reason"] == "Suspended"
    made.cluster.submit(demo())
    await made.settle()
    assert made.condition("Ready")["status"] == "True"


async def test_deletion_leaves_nothing_and_writes_nothing() -> None:
    made = await serving()
    written = len(made.cluster.writes)
    made.cluster.remove(DIFFUSION_DEPLOYMENTS, "demo")
    outcome = await made.reconcile()
    assert outcome.reason == "Gone"
    assert made.writes_since(written) == []
    assert {key[0] for key in made.cluster.objects} == {"nodes"}


@pytest.mark.parametrize("flow", ["create", "replan", "suspend"])
async def test_killed_after_any_write_it_ends_in_the_same_state(flow: str) -> None:
    def change(made: World) -> None:
        if flow == "create":
            made.cluster.submit(demo())
        else:
            made.cluster.submit(demo(gpus=2) if flow == "replan" else demo(suspend=True))

    async def start() -> World:
        return world(2) if flow == "create" else await serving()

    undisturbed = await start()
    before = len(undisturbed.cluster.writes)
    change(undisturbed)
    await undisturbed.settle()
    total = len(undisturbed.cluster.writes) - before
    assert total >= 2
    for k in range(1, total + 1):
        made = await start()
        change(made)
        made.cluster.kill_after = len(made.cluster.writes) + k
        with pytest.raises(Killed):
            await made.settle()
        made.cluster.kill_after = None
        made.restart_operator()
        await made.settle()
        assert made.cluster.state() == undisturbed.cluster.state(), f"killed after write {k} of {total}"
