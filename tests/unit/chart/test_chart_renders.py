"""The chart renders the same objects each time, passes lint, and puts every value where it belongs."""

from __future__ import annotations

import pytest

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
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "CustomResourceDefinition",
        "Deployment",
        "ServiceAccount",
    ]


def test_one_operator_and_never_two_at_once() -> None:
    spec = only(rendered(), "Deployment")["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


def test_the_selector_matches_the_pods_and_holds_no_version() -> None:
    spec = only(rendered(), "Deployment")["spec"]
    selector = spec["selector"]["matchLabels"]
    assert selector.items() <= spec["template"]["metadata"]["labels"].items()
    assert set(selector) == {"app.kubernetes.io/name", "app.kubernetes.io/instance"}


def test_the_settings_reach_the_operator() -> None:
    container = pod_spec(
        f"engine.image.digest={DIGEST}", "engine.image.pullPolicy=Never", "operator.logLevel=debug"
    )["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {
        "DIFFUSION_ENGINE_IMAGE": f"example/engine@{DIGEST}",
        "DIFFUSION_ENGINE_IMAGE_PULL_POLICY": "Never",
        "DIFFUSION_LOG_LEVEL": "debug",
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
