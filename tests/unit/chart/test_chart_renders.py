"""The chart renders the same objects each time, passes lint, and puts every value where it belongs."""

from __future__ import annotations

import json

import pytest

from diffusion_operator.settings import read_settings
from unit.chart.helm import CHART, IMAGES, helm, only, pod_spec, rendered, template

DIGEST = "sha256:" + "a" * 64


def test_lint_finds_nothing() -> None:
    flags = [flag for setting in IMAGES for flag in ("--set", setting)]
    finished = helm("lint", "--strict", str(CHART), *flags)
    assert finished.returncode == 0, finished.stdout


def test_rendering_twice_gives_the_same_text() -> None:
    assert template().stdout == template().stdout != ""


def test_what_is_rendered_by_default() -> None:
    kinds = sorted(document["kind"] for document in rendered())
    assert kinds == [
        "ClusterRole",
        "ClusterRole",
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "CustomResourceDefinition",
        "Deployment",
        "NetworkPolicy",
        "Pod",
        "PodDisruptionBudget",
        "Role",
        "RoleBinding",
        "Service",
        "ServiceAccount",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    ]


def test_two_replicas_that_prefer_two_nodes_and_are_replaced_one_by_one() -> None:
    documents = rendered()
    spec = only(documents, "Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    budget = only(documents, "PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    spread = spec["template"]["spec"]["affinity"]["podAntiAffinity"]
    (term,) = spread["preferredDuringSchedulingIgnoredDuringExecution"]
    for selector in (budget["selector"], term["podAffinityTerm"]["labelSelector"]):
        assert selector["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        assert selector["matchLabels"]["app.kubernetes.io/component"] == "operator"


def test_one_replica_has_no_disruption_budget_that_would_block_drains() -> None:
    kinds = {document["kind"] for document in rendered("operator.replicas=1")}
    assert "PodDisruptionBudget" not in kinds


def test_the_lease_is_in_the_operators_own_namespace() -> None:
    documents = rendered()
    role, binding = only(documents, "Role"), only(documents, "RoleBinding")
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "somewhere"
    assert [rule["resources"] for rule in role["rules"]] == [["leases"]]
    environment = {entry["name"]: entry for entry in pod_spec()["containers"][0]["env"]}
    source = environment["DIFFUSION_LEASE_NAMESPACE"]["valueFrom"]
    assert source == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    assert environment["DIFFUSION_LEASE_NAME"]["value"] == "release-diffusion-operator"


def test_the_selector_matches_the_pods_and_holds_no_version() -> None:
    spec = only(rendered(), "Deployment")["spec"]
    selector = spec["selector"]["matchLabels"]
    assert selector.items() <= spec["template"]["metadata"]["labels"].items()
    assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


def test_the_settings_reach_the_operator() -> None:
    container = pod_spec(
        f"engine.image.digest={DIGEST}",
        "engine.image.pullPolicy=Never",
        "operator.logLevel=debug",
        "operator.logFormat=json",
    )["containers"][0]
    environment = {
        entry["name"]: entry["value"] for entry in container["env"] if "LEASE" not in entry["name"]
    }
    assert environment == {
        "DIFFUSION_ENGINE_IMAGE": f"example/engine@{DIGEST}",
        "DIFFUSION_ENGINE_IMAGE_PULL_POLICY": "Never",
        "DIFFUSION_LOG_LEVEL": "debug",
        "DIFFUSION_LOG_FORMAT": "json",
        "DIFFUSION_NETWORK_POLICY": json.dumps(
            {"apiFrom": [], "monitoringNamespaces": ["monitoring"], "operatorNamespace": "somewhere"},
            separators=(",", ":"),
        ),
    }


@pytest.mark.parametrize(
    ("settings", "image"),
    [
        ((), "example/operator:0.1.0"),
        (("operator.image.tag=edge",), "example/operator:edge"),
        (("operator.image.tag=edge", f"operator.image.digest={DIGEST}"), f"example/operator@{DIGEST}"),
    ],
)
def test_a_digest_decides_over_a_tag_and_a_tag_over_the_version(
    settings: tuple[str, ...], image: str
) -> None:
    assert pod_spec(*settings)["containers"][0]["image"] == image


def test_probes_ask_the_operator_itself() -> None:
    container = pod_spec()["containers"][0]
    assert container["ports"] == [{"name": "http", "containerPort": 8080}]
    paths = {
        probe: container[probe]["httpGet"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert paths == {
        "startupProbe": {"path": "/livez", "port": "http"},
        "livenessProbe": {"path": "/livez", "port": "http"},
        "readinessProbe": {"path": "/readyz", "port": "http"},
    }


def test_pod_settings_arrive() -> None:
    spec = pod_spec(
        "imagePullSecrets[0].name=login",
        "operator.nodeSelector.zone=a",
        "operator.tolerations[0].operator=Exists",
        "operator.priorityClassName=high",
        "operator.extraEnv[0].name=HTTPS_PROXY",
        "operator.extraEnv[0].value=http://proxy",
    )
    assert spec["imagePullSecrets"] == [{"name": "login"}]
    assert spec["nodeSelector"] == {"zone": "a"}
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "high"
    assert {"name": "HTTPS_PROXY", "value": "http://proxy"} in spec["containers"][0]["env"]


def test_a_pod_label_cannot_break_the_selector() -> None:
    deployment = only(
        rendered("operator.podLabels.app\\.kubernetes\\.io/name=other", "operator.podLabels.team=a"),
        "Deployment",
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/name"] == "diffusion-operator"
    assert labels["team"] == "a"


def test_the_notes_say_what_to_do_next() -> None:
    flags = [flag for setting in IMAGES for flag in ("--set", setting)]
    finished = helm("install", "release", str(CHART), "--dry-run=client", "--namespace", "somewhere", *flags)
    assert finished.returncode == 0, finished.stderr
    notes = finished.stdout.partition("NOTES:")[2]
    for part in (
        "kubectl -n somewhere rollout status deployment/release-diffusion-operator",
        "kubectl apply -f",
    ):
        assert part in notes
    assert "kubectl get dd demo" in notes


def test_pools_and_the_driver_reach_the_operator_as_it_reads_them() -> None:
    settings = ("name=spot", "product=NVIDIA-H200", "gpusPerNode=8", "maxNodes=3", "nodeSelector.pool=spot")
    pools = (f"nodePools[0].{setting}" for setting in settings)
    (container,) = pod_spec(*pools, "engine.minimumDriver=590")["containers"]
    environment = {entry["name"]: entry.get("value", "") for entry in container["env"]}
    read = read_settings([], environment)
    (pool,) = read.terms.pools
    assert (pool.name, pool.max_nodes, pool.labels) == ("spot", 3, (("pool", "spot"),))
    assert read.terms.least_driver == (590,)
    plain = {entry["name"] for entry in pod_spec()["containers"][0]["env"]}
    assert not plain & {"DIFFUSION_NODE_POOLS", "DIFFUSION_MINIMUM_DRIVER"}
