"""A pod whose weights live on the host asks for that memory, so that it is not given twice."""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.placement.decision import GroupDecision
from diffusion_operator.render.deployment import render_deployment
from unit.operator.scenes import SETTINGS, Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder


def offloading(**more: Any) -> tuple[GroupDecision, dict[str, Any]]:
    """A group whose plan keeps weights on the host, and the resources of its pods."""
    dd = Dd().gpus_per_replica(1).set("residency", {"text_encoder": "component"})
    for path, value in more.items():
        dd.set(path.replace("__", "."), value)
    (group,) = Scene([NodeBuilder("n").gpus(1)]).decide(dd).groups
    manifest = render_deployment(DiffusionDeployment.parse(dd.build()), group, SETTINGS)
    resources = manifest["spec"]["template"]["spec"]["containers"][0]["resources"]
    return group, dict(resources)


def test_the_planned_bytes_are_requested_and_not_limited() -> None:
    group, resources = offloading()
    assert resources["requests"]["memory"] == str(group.plan.memory.host_bytes)
    assert "memory" not in resources["limits"]


def test_what_the_user_writes_wins() -> None:
    _, resources = offloading(pod__resources={"limits": {"memory": "64Gi"}})
    assert resources["limits"]["memory"] == "64Gi"
    assert "memory" not in resources["requests"]


def test_a_plain_plan_asks_for_nothing() -> None:
    _, resources = offloading(residency={})
    assert set(resources["requests"]) == {"nvidia.com/gpu"}


def test_replicas_that_the_host_memory_cannot_hold_wait() -> None:
    dd = Dd().gpus_per_replica(1).set("residency", {"text_encoder": "component"}).replicas(3)
    need = offloading()[0].plan.memory.host_bytes
    scene = Scene([NodeBuilder("n").gpus(4).memory(str(need * 3 + 1000))])
    decision = scene.decide(dd)
    assert decision.groups[0].replicas == 3
    scene.apply(dd, decision)
    other = scene.decide(Dd("other").gpus_per_replica(1).set("residency", {"text_encoder": "component"}))
    assert other.groups == ()
    assert other.refusal is not None
    assert other.refusal.reason == "InsufficientHostMemory"


def test_running_out_of_host_memory_is_not_called_a_lack_of_gpus() -> None:
    dd = Dd().gpus_per_replica(1).set("residency", {"text_encoder": "component"}).replicas(2)
    need = offloading()[0].plan.memory.host_bytes
    scene = Scene([NodeBuilder("n").gpus(4).memory(str(need * 2 + 1000))])
    scene.apply(dd, scene.decide(dd))
    found = scene.decide(dd.replicas(3)).refusal
    assert found is not None
    assert (found.reason, found.stalled) == ("InsufficientHostMemory", False)
    assert found.message.startswith("1 of 3 replicas waits: needs 3.0GiB of host memory")
    assert "the freest node n has 1000B" in found.message
