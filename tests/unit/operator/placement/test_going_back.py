"""A roll-out that failed goes back to what was ready last, and is not tried again for the same wish."""

from __future__ import annotations

from dataclasses import replace

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.placement.decision import Decision
from diffusion_operator.placement.history import Evidence, LastReady
from diffusion_operator.placement.wish import intent_hash
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder


def serves(scene: Scene, dd: Dd, decision: Decision) -> None:
    """The decided plan became ready: what the status would remember."""
    (group,) = decision.groups
    scene.apply(dd, decision)
    image = group.engine_image or scene.engine
    entry = LastReady(group.name, group.plan.hash, group.intent, group.wish, image)
    plans = {**scene.history.plans, (group.name, group.plan.hash): group.plan}
    scene.history = replace(scene.history, ready=(entry,), plans=plans)


def failed(decision: Decision) -> Evidence:
    (group,) = decision.groups
    return Evidence(group.name, group.plan.hash, "failed", "CrashLoop", "the engine ended with exit code 1")


def one() -> Dd:
    return Dd().gpus_per_replica(1)


def two() -> Dd:
    return Dd().gpus_per_replica(2)


def after_a_failed_change() -> tuple[Scene, Decision, Decision]:
    """One GPU served; two GPUs failed."""
    scene = Scene([NodeBuilder("n").gpus(8)])
    good = scene.decide(one())
    serves(scene, one(), good)
    bad = scene.decide(two())
    scene.apply(two(), bad)
    back = scene.decide(two(), failed(bad))
    scene.apply(two(), back)
    return scene, good, back


def test_the_plan_that_was_ready_returns() -> None:
    scene, good, back = after_a_failed_change()
    (group,) = back.groups
    assert group.plan == good.groups[0].plan
    assert group.rolled_back is not None
    assert (group.rolled_back.reason, group.engine_image) == ("CrashLoop", "engine:1")
    assert group.intent == good.groups[0].intent
    assert group.wish != intent_hash(DiffusionDeployment.parse(two().build()), "")
    assert scene.decide(two()) == back


def test_it_is_not_tried_again_when_capacity_or_replicas_change() -> None:
    scene, good, _ = after_a_failed_change()
    scene.nodes = [*scene.nodes, NodeBuilder("m").gpus(8)]
    for dd in (two(), two().replicas(2)):
        (group,) = scene.decide(dd).groups
        assert group.plan == good.groups[0].plan
    assert scene.decide(two().replicas(2)).groups[0].replicas == 2


def test_a_new_spec_engine_or_driver_is_a_new_try() -> None:
    for change in ("spec", "engine", "hardware"):
        scene, _, _ = after_a_failed_change()
        dd = two()
        if change == "spec":
            dd.set("workload.guidance", "on")
        elif change == "engine":
            scene.engine = "engine:2"
        else:
            scene.nodes = [NodeBuilder("n").gpus(8).label("nvidia.com/cuda.driver-version.major", "590")]
        (group,) = scene.decide(dd).groups
        assert (group.rolled_back, group.plan.gpus_per_replica) == (None, 2), change


def test_returning_to_the_old_spec_is_no_roll_out() -> None:
    scene, good, _ = after_a_failed_change()
    (group,) = scene.decide(one()).groups
    assert (group.plan, group.rolled_back) == (good.groups[0].plan, None)


def test_an_engine_that_cannot_start_goes_back_to_the_image_before() -> None:
    scene = Scene([NodeBuilder("n").gpus(8)])
    good = scene.decide(one())
    serves(scene, one(), good)
    scene.engine = "engine:broken"
    bad = scene.decide(one())
    assert bad.groups[0].plan.hash == good.groups[0].plan.hash
    scene.apply(one(), bad)
    back = scene.decide(one(), failed(bad))
    (group,) = back.groups
    assert group.engine_image == "engine:1"
    assert group.wish == intent_hash(DiffusionDeployment.parse(one().build()), "")
    scene.apply(one(), back)
    pod = scene.deployments["default/demo-h200"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "engine:1"
    assert scene.decide(one()) == back


def test_without_an_earlier_plan_there_is_nothing_to_go_back_to() -> None:
    scene = Scene([NodeBuilder("n").gpus(8)])
    bad = scene.decide(one())
    scene.apply(one(), bad)
    (group,) = scene.decide(one(), failed(bad)).groups
    assert group.plan == bad.groups[0].plan
    assert group.rolled_back is None
    assert group.failed is not None


def test_an_earlier_plan_that_no_longer_fits_is_not_forced() -> None:
    scene, _, _ = after_a_failed_change()
    small = NodeBuilder("n").gpus(8).label("nvidia.com/gpu.memory", "256")
    scene.nodes = [small]
    decision = scene.decide(two())
    assert all(group.rolled_back is None for group in decision.groups)
