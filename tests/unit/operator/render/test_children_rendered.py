"""Children of a decision: kinds and order, names, labels, ownership, and the contract with the engine."""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.placement.decision import Decision, Refusal
from diffusion_operator.render.children import render_children
from diffusion_runtime.planning.documents import Plan
from unit.operator.scenes import SETTINGS, Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder


def render(dd: Dd, nodes: list[NodeBuilder] | None = None) -> dict[str, dict[str, Any]]:
    decision = Scene(nodes or [NodeBuilder("n").gpus(8)]).decide(dd)
    manifests = render_children(DiffusionDeployment.parse(dd.build()), decision, SETTINGS)
    return {manifest["kind"]: manifest for manifest in manifests}


def test_kinds_in_apply_order() -> None:
    assert list(render(Dd())) == [
        "ServiceAccount",
        "ConfigMap",
        "Service",
        "PodDisruptionBudget",
        "Deployment",
    ]


def test_a_refusal_without_groups_renders_nothing() -> None:
    refused = Decision(refusal=Refusal("InsufficientGPUs", "needs 1 GPU", stalled=False))
    assert render_children(DiffusionDeployment.parse(Dd().build()), refused, SETTINGS) == []


def test_every_child_is_owned_labelled_and_in_the_namespace() -> None:
    for manifest in render(Dd("studio", "team")).values():
        metadata = manifest["metadata"]
        assert metadata["namespace"] == "team"
        assert metadata["ownerReferences"] == [
            {
                "apiVersion": "diffusion-operator.io/v1alpha1",
                "kind": "DiffusionDeployment",
                "name": "studio",
                "uid": "uid-studio",
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ]
        assert metadata["labels"]["diffusion-operator.io/deployment"] == "studio"
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "diffusion-operator"
        assert "finalizers" not in metadata


def test_plan_is_an_immutable_config_map_that_the_pod_mounts() -> None:
    children = render(Dd())
    config_map, deployment = children["ConfigMap"], children["Deployment"]
    plan = Plan.model_validate_json(config_map["data"]["plan.json"])
    assert config_map["immutable"] is True
    assert config_map["metadata"]["name"] == f"demo-h200-{plan.hash}"
    template = deployment["spec"]["template"]
    assert {"name": "plan", "configMap": {"name": f"demo-h200-{plan.hash}"}} in template["spec"]["volumes"]
    assert template["metadata"]["annotations"]["diffusion-operator.io/plan-hash"] == plan.hash
    assert template["metadata"]["labels"]["diffusion-operator.io/plan-hash"] == plan.hash


def test_engine_container_keeps_the_contract() -> None:
    deployment = render(Dd().gpus_per_replica(2))["Deployment"]
    (engine,) = deployment["spec"]["template"]["spec"]["containers"]
    assert deployment["metadata"]["name"] == "demo-h200"
    assert engine["name"] == "engine"
    assert engine["image"] == "engine:1"
    assert engine["command"] == ["diffusion-runtime", "serve", "--plan", "/etc/diffusion/plan.json"]
    assert {port["name"]: port["containerPort"] for port in engine["ports"]} == {
        "http": 8000,
        "management": 9000,
    }
    assert engine["resources"] == {"requests": {"nvidia.com/gpu": "2"}, "limits": {"nvidia.com/gpu": "2"}}
    for probe, path in (
        ("startupProbe", "/startupz"),
        ("livenessProbe", "/livez"),
        ("readinessProbe", "/readyz"),
    ):
        assert engine[probe]["httpGet"] == {"path": path, "port": "management"}
    startup = engine["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 6 * 3600


def test_selector_is_part_of_the_pod_labels() -> None:
    children = render(Dd())
    template = children["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    assert children["Deployment"]["spec"]["selector"]["matchLabels"].items() <= template
    assert children["Service"]["spec"]["selector"].items() <= template
    assert children["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"].items() <= template


def test_service_opens_the_api_port_only() -> None:
    service = render(Dd("x").set("service", {"type": "nodePort", "port": 8080}))["Service"]
    assert service["metadata"]["name"] == "x"
    assert service["spec"]["type"] == "NodePort"
    assert service["spec"]["ports"] == [
        {"name": "http", "port": 8080, "targetPort": "http", "protocol": "TCP"}
    ]
    assert render(Dd())["Service"]["spec"]["ports"][0]["port"] == 80


def test_budget_never_blocks_the_drain_of_a_single_replica() -> None:
    assert render(Dd())["PodDisruptionBudget"]["spec"]["maxUnavailable"] == 1


def test_zero_replicas_still_have_a_deployment() -> None:
    assert render(Dd().replicas(0))["Deployment"]["spec"]["replicas"] == 0


def test_strategy_and_times() -> None:
    dd = Dd().gpus_per_replica(1).set("rollout", {"drainTimeout": "15m", "progressDeadlineSeconds": 900})
    recreate = render(dd, [NodeBuilder("n").gpus(1)])["Deployment"]["spec"]
    assert recreate["strategy"] == {"type": "Recreate"}
    assert recreate["progressDeadlineSeconds"] == 900
    assert recreate["template"]["spec"]["terminationGracePeriodSeconds"] == 900
    surge = render(Dd())["Deployment"]["spec"]
    assert surge["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert surge["template"]["spec"]["terminationGracePeriodSeconds"] == 120


def test_rendering_is_deterministic() -> None:
    assert render(Dd()) == render(Dd())
