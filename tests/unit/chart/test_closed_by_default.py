"""What the chart closes, what a value opens, and that every optional object can be had and left out."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
import yaml

from diffusion_operator.api.admission import author_policy
from diffusion_operator.settings import read_settings
from unit.chart.helm import CHART, FULL_NAME, named, only, pod_spec, rendered

OPTIONAL = {
    "monitoring.serviceMonitor.enabled": "ServiceMonitor",
    "monitoring.podMonitor.enabled": "PodMonitor",
    "monitoring.rules.enabled": "PrometheusRule",
    "monitoring.dashboard.enabled": "ConfigMap",
    "admissionPolicy.enabled": "ValidatingAdmissionPolicy",
    "networkPolicy.enabled": "NetworkPolicy",
}


def environment(*settings: str) -> dict[str, str]:
    container = pod_spec(*settings)["containers"][0]
    return {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}


@pytest.mark.parametrize(("value", "kind"), OPTIONAL.items())
def test_a_value_makes_exactly_its_object(value: str, kind: str) -> None:
    counts = [Counter(doc["kind"] for doc in rendered(f"{value}={on}")) for on in ("true", "false")]
    more = counts[0] - counts[1]
    assert more[kind] == 1
    assert set(more) <= {kind, f"{kind}Binding"}


def test_people_get_their_rights_through_the_roles_they_have() -> None:
    aggregated = [d for d in rendered() if "aggregate-to-" in json.dumps(d["metadata"])]
    roles = [document for document in aggregated if document["kind"] == "ClusterRole"]
    for role in roles:
        assert {group for rule in role["rules"] for group in rule["apiGroups"]} == {"diffusion-operator.io"}
        verbs = {verb for rule in role["rules"] for verb in rule["verbs"]}
        assert verbs == {"get", "list", "watch"} or "diffusiondeployments/status" not in str(role)
    assert len(roles) == 2
    assert [d for d in rendered("userRoles.enabled=false") if "aggregate-to" in json.dumps(d)] == []


def test_the_policy_is_the_generated_one_and_is_bound() -> None:
    policy = named("ValidatingAdmissionPolicy", f"{FULL_NAME}-author")
    binding = named("ValidatingAdmissionPolicyBinding", f"{FULL_NAME}-author")
    assert policy["spec"] == author_policy()
    assert binding["spec"] == {"policyName": policy["metadata"]["name"], "validationActions": ["Deny"]}


def test_the_operator_reads_what_the_values_say() -> None:
    peer = "networkPolicy.apiFrom[0].podSelector.matchLabels.app=gateway"
    given = environment(peer, "networkPolicy.monitoringNamespaces={a,b}")
    policy = read_settings([], given).render.network_policy
    assert policy is not None
    assert (policy.operator_namespace, policy.monitoring_namespaces) == ("somewhere", ("a", "b"))
    assert policy.api_from == ({"podSelector": {"matchLabels": {"app": "gateway"}}},)
    assert read_settings([], environment("networkPolicy.enabled=false")).render.network_policy is None


def test_the_operator_s_port_is_open_to_its_own_and_the_monitoring_namespaces() -> None:
    documents = rendered("networkPolicy.monitoringNamespaces={monitoring,somewhere}")
    policy, deployment = only(documents, "NetworkPolicy")["spec"], only(documents, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": "http", "protocol": "TCP"}]
    names = [peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for peer in rule["from"]]
    assert names == ["somewhere", "monitoring"]


def test_monitors_find_what_they_scrape() -> None:
    documents = rendered("monitoring.serviceMonitor.enabled=true", "monitoring.labels.release=p")
    service, monitor = only(documents, "Service"), only(documents, "ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "p"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [port["name"] for port in service["spec"]["ports"]] == [monitor["spec"]["endpoints"][0]["port"]]


def test_the_test_pod_is_no_operator_and_is_restricted() -> None:
    documents = rendered()
    pod, service = only(documents, "Pod"), only(documents, "Service")
    assert not service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    (container,) = pod["spec"]["containers"]
    operator = pod_spec()
    assert container["securityContext"] == operator["containers"][0]["securityContext"]
    assert pod["spec"]["securityContext"].items() <= operator["securityContext"].items()
    assert container["image"] == operator["containers"][0]["image"]
    host = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert container["command"][-1] == f"http://{host}:{service['spec']['ports'][0]['port']}"


def test_values_and_schema_name_the_same() -> None:
    chart_values = yaml.safe_load((CHART / "values.yaml").read_text())
    chart_schema = json.loads((CHART / "values.schema.json").read_text())

    def names(values: Any, schema: Any, path: str) -> None:
        if "$ref" in schema:
            schema = chart_schema["definitions"][schema["$ref"].rsplit("/", 1)[1]]
        if not isinstance(values, dict) or "properties" not in schema:
            return
        known = set(schema["properties"]) - ({"global"} if not path else set())
        assert schema["additionalProperties"] is False, path
        assert set(values) == known or path.endswith(".resources"), path
        for key, value in values.items():
            names(value, schema["properties"][key], f"{path}.{key}")

    names(chart_values, chart_schema, "")
