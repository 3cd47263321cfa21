"""Out of memory: the next fallback takes over and is remembered; what serves is never moved for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.placement.decision import Decision
from diffusion_operator.placement.facts import placed
from diffusion_operator.placement.history import Evidence
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.documents import ModelRef, Plan
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

OLD, NEW = "0a" * 20, "c0ffee" + "0" * 34


def large(name: str = "demo") -> Dd:
    """A picture size for which the demo model has four fallbacks."""
    return Dd(name).gpus_per_replica(1).set("workload.shapes", [{"width": 1024, "height": 1024}])


def running(dd: Dd) -> tuple[Scene, Plan]:
    scene = Scene([NodeBuilder("n").gpus(2)])
    decision = scene.decide(dd)
    scene.apply(dd, decision)
    scene.start_pods(dd, decision)
    return scene, decision.groups[0].plan


def ended(plan: Plan, executing: str | None = None, reason: str = "CudaOutOfMemory") -> Evidence:
    return Evidence("h200", plan.hash, "outOfMemory", reason, "asked 3 GiB, 1 GiB free", executing)


def only(decision: Decision) -> Plan:
    (group,) = decision.groups
    return group.plan


def test_the_next_fallback_becomes_the_plan_and_says_from_where() -> None:
    scene, plan = running(large())
    decision = scene.decide(large(), ended(plan))
    leaner = only(decision)
    first = plan.fallbacks[0]
    assert leaner.memory.peak_per_gpu_bytes == first.peak_per_gpu_bytes
    assert (leaner.vae, leaner.residency) == (first.vae, first.residency)
    assert leaner.fallbacks == plan.fallbacks[1:]
    assert leaner.hash not in {plan.hash, first.hash}
    assert decision.groups[0].downgraded_from == plan.hash
    assert plan.hash in leaner.reasons[0]
    assert "CudaOutOfMemory" in leaner.reasons[0]


def test_it_stays_when_the_evidence_is_gone() -> None:
    scene, plan = running(large())
    decision = scene.decide(large(), ended(plan))
    scene.apply(large(), decision)
    again = scene.decide(large())
    assert only(again) == only(decision)
    assert again.groups[0].downgraded_from == plan.hash
    assert again.history == decision.history


def test_fallbacks_that_the_engine_has_tried_are_passed_over() -> None:
    scene, plan = running(large())
    decision = scene.decide(large(), ended(plan, executing=plan.fallbacks[1].hash))
    assert only(decision).memory.peak_per_gpu_bytes == plan.fallbacks[2].peak_per_gpu_bytes


def test_one_step_after_the_other_until_none_is_left() -> None:
    scene, plan = running(large())
    seen = [plan]
    for _ in plan.fallbacks:
        decision = scene.decide(large(), ended(seen[-1]))
        scene.apply(large(), decision)
        seen.append(only(decision))
    assert [p.memory.peak_per_gpu_bytes for p in seen[1:]] == [f.peak_per_gpu_bytes for f in plan.fallbacks]
    last = scene.decide(large(), ended(seen[-1]))
    assert only(last) == seen[-1]
    assert last.groups[0].failed is not None
    assert last.groups[0].failed.message == "asked 3 GiB, 1 GiB free"


def test_it_is_remembered_for_a_new_deployment_of_the_plan() -> None:
    """The Deployment was lost: the same question is not answered by the plan that failed."""
    scene, plan = running(large())
    scene.apply(large(), scene.decide(large(), ended(plan)))
    scene.current.clear()
    scene.deployments.clear()
    scene.pods.clear()
    decision = scene.decide(large())
    assert only(decision).memory.peak_per_gpu_bytes == plan.fallbacks[0].peak_per_gpu_bytes
    assert decision.groups[0].downgraded_from == plan.hash


@pytest.mark.parametrize("what", ["engine", "hardware", "shape", "layout"])
def test_another_question_is_asked_anew(what: str) -> None:
    scene, plan = running(large())
    scene.apply(large(), scene.decide(large(), ended(plan)))
    scene.current.clear()
    dd = large()
    if what == "engine":
        scene.engine = "engine:2"
    elif what == "hardware":
        scene.nodes = [NodeBuilder("n").gpus(2).label("nvidia.com/cuda.driver-version.major", "590")]
    elif what == "shape":
        dd.set("workload.shapes", [{"width": 1024, "height": 512}])
    else:
        dd.gpus_per_replica(2)
    decision = scene.decide(dd)
    assert decision.groups[0].downgraded_from is None
    if what in ("engine", "hardware"):
        assert only(decision).hash == plan.hash
        assert decision.history.downgrades == ()


def at_revision(scene: Scene, commit: str) -> Dd:
    """The same model from a hub, at another commit."""
    dd = large().set("model.source", {"huggingFace": {"repo": "tiny/qwen", "revision": commit}})
    facts = facts_for("demo")
    model = ModelRef(name="tiny/qwen", family=facts.model.family, source="huggingFace", revision=commit)
    scene.facts = placed(
        DiffusionDeployment.parse(dd.build()).spec, facts.model_copy(update={"model": model})
    )
    return dd


def test_a_new_revision_is_planned_as_if_nothing_had_happened() -> None:
    scene = Scene([NodeBuilder("n").gpus(2)])
    old = at_revision(scene, OLD)
    plan = only(scene.decide(old))
    scene.apply(old, scene.decide(old))
    leaner = scene.decide(old, ended(plan))
    scene.apply(old, leaner)
    assert leaner.groups[0].downgraded_from == plan.hash
    assert leaner.history.downgrades[0].model == f"tiny/qwen@{OLD}"

    new = at_revision(scene, NEW)
    decision = scene.decide(new)
    assert decision.groups[0].downgraded_from is None
    assert only(decision).memory.peak_per_gpu_bytes == plan.memory.peak_per_gpu_bytes
    scene.apply(new, decision)
    again = scene.decide(at_revision(scene, OLD))
    assert only(again).memory.peak_per_gpu_bytes == plan.fallbacks[0].peak_per_gpu_bytes


def test_an_engine_on_a_fallback_is_remembered_but_not_moved() -> None:
    scene, plan = running(large())
    second = plan.fallbacks[1]
    seen = Evidence("h200", plan.hash, "fallback", "FallbackActive", "executes it", second.hash)
    decision = scene.decide(large(), seen)
    assert only(decision) == plan
    (entry,) = decision.history.downgrades
    assert entry.peak_bytes == plan.fallbacks[0].peak_per_gpu_bytes
    scene.apply(large(), decision)
    scene.current.clear()
    assert only(scene.decide(large())).memory.peak_per_gpu_bytes == second.peak_per_gpu_bytes


def test_without_permission_nothing_is_stepped_down() -> None:
    dd = large().set("performance.allowDowngrade", False)
    scene, plan = running(dd)
    assert plan.fallbacks == ()
    decision = scene.decide(dd, ended(plan))
    assert only(decision) == plan
    assert decision.groups[0].failed is not None
    assert decision.groups[0].failed.reason == "CudaOutOfMemory"


def test_want_of_host_memory_is_not_met_by_keeping_more_there() -> None:
    scene, plan = running(large())
    assert all((fallback.host_bytes or 0) >= plan.memory.host_bytes for fallback in plan.fallbacks)
    decision = scene.decide(large(), ended(plan, reason="HostOOMKilled"))
    assert only(decision) == plan
    assert decision.groups[0].failed is not None


def test_evidence_of_another_plan_teaches_nothing() -> None:
    scene, plan = running(large())
    old = replace(ended(plan), plan_hash="000000000000")
    decision = scene.decide(large(), old)
    assert only(decision) == plan
    assert decision.history.downgrades == ()


def test_the_memory_is_bounded() -> None:
    scene, _ = running(large())
    for width in range(512, 512 + 16 * 20, 16):
        dd = large().set("workload.shapes", [{"width": width, "height": 1024}])
        decision = scene.decide(dd)
        scene.apply(dd, decision)
        scene.apply(dd, scene.decide(dd, ended(only(decision))))
    assert len(scene.history.downgrades) == 16
