"""A spec that cannot be followed: one clear sentence, and what serves keeps serving."""

from __future__ import annotations

from diffusion_operator.kube.resources import DEPLOYMENTS, DIFFUSION_DEPLOYMENTS, PODS, SERVICES
from unit.reconcile.worlds import demo, world


async def test_an_invalid_spec_is_stalled_and_names_field_and_value() -> None:
    made = world(2)
    made.cluster.submit(demo(performance={"bias": 7}))
    outcome = await made.reconcile()
    stalled = made.condition("Stalled")
    assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
    assert "spec.performance.bias" in stalled["message"]
    assert "7" in stalled["message"]
    assert made.cluster.names(DEPLOYMENTS) == []
    assert outcome.recheck_after_s is None


async def test_pods_of_the_previous_spec_keep_serving_under_an_invalid_one() -> None:
    made = world(2)
    made.cluster.submit(demo())
    await made.settle()
    children = {key: obj for key, obj in made.cluster.state().items() if not key.startswith("diffusion")}
    promised = made.status()["placements"]
    made.cluster.submit(demo(performance={"bias": 7}))
    await made.settle()
    after = {key: obj for key, obj in made.cluster.state().items() if not key.startswith("diffusion")}
    assert after == children
    ready = made.condition("Ready")
    assert (ready["status"], ready["reason"], ready["observedGeneration"]) == ("False", "InvalidSpec", 2)
    assert ready["message"].endswith("1 pod of the previous plan keeps serving")
    assert (made.status()["placements"], made.status()["readyReplicas"]) == (promised, 1)
    assert [event["reason"] for event in made.cluster.events.values()] == ["Planned", "Ready", "InvalidSpec"]


async def test_more_gpus_than_any_node_has_is_stalled_and_leaves_the_old_pods() -> None:
    made = world(2)
    made.cluster.submit(demo())
    await made.settle()
    made.cluster.submit(demo(gpus=8))
    await made.settle()
    assert made.condition("Stalled")["status"] == "True"
    assert "8" in made.condition("Stalled")["message"]
    assert len(made.cluster.names(PODS)) == 1
    made.cluster.submit(demo())
    await made.settle()
    assert made.condition("Ready")["status"] == "True"


async def test_no_gpu_node_at_all_is_stalled_until_one_comes() -> None:
    made = world()
    made.cluster.submit(demo())
    await made.settle()
    assert (made.condition("Stalled")["status"], made.condition("Stalled")["reason"]) == (
        "True",
        "NoGPUNodes",
    )
    assert len(made.reconciler.waiting) == 1
    made.cluster.add_node("node-1", 1)
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    assert made.reconciler.waiting == set()


async def test_a_foreign_service_of_that_name_is_never_taken_over() -> None:
    made = world(2)
    foreign = {"metadata": {"name": "demo", "namespace": "team"}, "spec": {"selector": {"app": "theirs"}}}
    made.cluster._store(SERVICES, foreign)
    made.cluster.submit(demo())
    await made.settle()
    assert made.cluster.get_now(SERVICES, "demo")["spec"] == {"selector": {"app": "theirs"}}
    stalled = made.condition("Stalled")
    assert stalled["reason"] == "InvalidSpec"
    assert "Service demo exists and does not belong" in stalled["message"]
    made.cluster.remove(SERVICES, "demo")
    await made.settle()
    assert made.condition("Ready")["status"] == "True"


async def test_a_successor_of_the_same_name_gets_its_own_children() -> None:
    made = world(2)
    made.cluster.submit(demo())
    await made.settle()
    expected = made.cluster.state()
    made.cluster.remove(DIFFUSION_DEPLOYMENTS, "demo")
    made.cluster.submit(demo())
    await made.settle()
    owner = made.cluster.get_now(DIFFUSION_DEPLOYMENTS, "demo")["metadata"]["uid"]
    assert made.cluster.get_now(SERVICES, "demo")["metadata"]["ownerReferences"][0]["uid"] == owner
    assert made.cluster.state().keys() == expected.keys()
