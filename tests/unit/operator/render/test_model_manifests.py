"""Manifests of every model source: valid by Kubernetes' types, restricted, without GPU, with few secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.ledger_build import build_ledger
from diffusion_operator.inventory.objects import parse_node
from diffusion_operator.inventory.selection import Mount
from diffusion_operator.placement.decide import decide
from diffusion_operator.placement.facts import placed
from diffusion_operator.render.children import render_children
from diffusion_operator.render.model_jobs import render_facts, render_fetch, render_inspect
from diffusion_operator.render.settings import RenderSettings
from diffusion_runtime.models.catalog import facts_for
from unit.operator.render.kubernetes_schema import unknown_fields
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

SETTINGS = RenderSettings("engine:1", image_pull_secrets=("registry",), hub_endpoint="http://hub.local:8080")
HUB = {"huggingFace": {"repo": "tiny/qwen"}}
S3 = {
    "s3": {
        "bucket": "models",
        "prefix": "tiny/qwen",
        "endpoint": "http://minio:9000",
        "region": "eu-1",
        "secretRef": {"name": "keys"},
    }
}
PVC = {"pvc": {"claimName": "weights", "path": "tiny"}}
IMAGE = {"image": {"reference": "registry.example/tiny:1"}}
CACHE = {"pvc": {"claimName": "cache"}}
KINDS = {"Deployment": "V1Deployment", "Job": "V1Job", "ConfigMap": "V1ConfigMap"}


def rendered(source: dict[str, Any], cache: Any = None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(Jobs, children) of a deployment with this source."""
    builder = Dd().set("model.source", source).set("hardware", {"nodeSelector": {"zone": "a"}})
    if source is HUB:
        builder = builder.set("model.secretRef", {"name": "token"}).set("model.variant", "fp16")
    if cache:
        builder = builder.set("cache", cache)
    dd = DiffusionDeployment.parse(builder.build())
    facts = placed(dd.spec, facts_for("demo"))
    ledger = build_ledger([parse_node(NodeBuilder("n").gpus(2).label("zone", "a").build())], [], [])
    decision = decide(dd, ledger, facts=facts, mounts=(Mount("weights"),))
    jobs = [render_inspect(dd, SETTINGS)]
    if cache:
        jobs.append(render_fetch(dd, decision.groups[0], SETTINGS))
    return jobs, [render_facts(dd, "{}", "c0ffee"), *render_children(dd, decision, SETTINGS)]


CASES = [(HUB, None), (HUB, CACHE), (S3, None), (S3, CACHE), (PVC, None), (IMAGE, None)]


@pytest.mark.parametrize(("source", "cache"), CASES)
def test_valid_by_kubernetes_types(source: dict[str, Any], cache: Any) -> None:
    jobs, children = rendered(source, cache)
    checked = [one for one in (*jobs, *children) if one["kind"] in KINDS]
    assert len(checked) >= 4
    for one in checked:
        assert unknown_fields(one, KINDS[one["kind"]]) == []


def test_the_check_finds_what_is_wrong() -> None:
    (inspect,), _ = rendered(IMAGE)
    volume = inspect["spec"]["template"]["spec"]["volumes"][1]
    volume["image"]["policy"] = volume["image"].pop("pullPolicy")
    assert unknown_fields(inspect, "V1Job") == [".spec.template.spec.volumes[1].image.policy"]


@pytest.mark.parametrize(("source", "cache"), CASES)
def test_jobs_are_restricted_and_hold_no_gpu(source: dict[str, Any], cache: Any) -> None:
    for one in rendered(source, cache)[0]:
        template = one["spec"]["template"]
        spec = template["spec"]
        assert (spec["restartPolicy"], spec["automountServiceAccountToken"]) == ("Never", False)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["imagePullSecrets"] == [{"name": "registry"}]
        (container,) = spec["containers"]
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert "nvidia.com/gpu" not in json.dumps(container)
        assert {v["name"] for v in spec["volumes"]} == {m["name"] for m in container["volumeMounts"]}
        # What the Service and the budget select must not be a Job's pod.
        assert "diffusion-operator.io/deployment" not in template["metadata"]["labels"]
        assert one["metadata"]["ownerReferences"][0]["controller"] is True
        assert len(one["metadata"]["name"]) <= 63


def test_a_prefix_of_a_store_is_read_with_its_own_keys() -> None:
    (inspect, fetch), children = rendered(S3, CACHE)
    for one in (inspect, fetch):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert (env["AWS_ENDPOINT_URL"], env["AWS_REGION"]) == ("http://minio:9000", "eu-1")
        assert {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= env.keys()
        assert "s3://models/tiny/qwen" in container["command"]
        assert "--revision" not in container["command"]
    assert "keys" not in json.dumps(children[-1]["spec"]["template"])


def test_a_hub_is_read_online_and_served_offline() -> None:
    (inspect, fetch), children = rendered(HUB, CACHE)
    for one in (inspect, fetch):
        (container,) = one["spec"]["template"]["spec"]["containers"]
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert (env["HF_HUB_OFFLINE"], env["HF_ENDPOINT"]) == ("0", "http://hub.local:8080")
        assert container["command"][-2:] == ["--variant", "fp16"]
    serving = children[-1]["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "HF_HUB_OFFLINE", "value": "1"} in serving["env"]
    assert not {"HF_TOKEN", "HF_ENDPOINT"} & {entry["name"] for entry in serving["env"]}
    nodes = fetch["spec"]["template"]["spec"]["nodeSelector"]
    assert nodes == {"zone": "a", "nvidia.com/gpu.product": "NVIDIA-H200"}
    assert "nodeSelector" not in inspect["spec"]["template"]["spec"]


def test_what_is_on_a_volume_is_looked_at_where_the_spec_allows_it() -> None:
    (inspect,), _ = rendered(PVC)
    assert inspect["spec"]["template"]["spec"]["nodeSelector"] == {"zone": "a"}
