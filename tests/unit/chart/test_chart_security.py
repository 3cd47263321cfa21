"""The operator runs as Pod Security `restricted` asks, and may do no more than the source says."""

from __future__ import annotations

from typing import Any

import yaml

from diffusion_operator.api.rbac import CLUSTER_RULES
from diffusion_operator.kube.resources import REQUIRED_ACCESS
from unit.chart.helm import CHART, only, operator_role, pod_spec, rendered


def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = operator_role()["rules"]
    return found


def test_the_pod_is_restricted() -> None:
    context = pod_spec()["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 10001
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}


def test_every_container_is_restricted_and_read_only() -> None:
    spec = pod_spec()
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert [volume for volume in spec["volumes"] if "emptyDir" not in volume] == []


def test_only_the_operator_pod_gets_a_token() -> None:
    documents = rendered()
    assert only(documents, "ServiceAccount")["automountServiceAccountToken"] is False
    assert pod_spec()["automountServiceAccountToken"] is True


def test_no_rule_touches_secrets_or_everything() -> None:
    for rule in rules():
        assert "secrets" not in rule["resources"]
        assert "*" not in [*rule["resources"], *rule["verbs"], *rule["apiGroups"]]


def test_the_role_is_the_generated_one() -> None:
    assert rules() == [rule.to_dict() for rule in CLUSTER_RULES]


def test_the_role_allows_all_that_the_operator_checks_at_its_start() -> None:
    granted = {
        (group, resource, verb)
        for rule in rules()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    needed = {
        (resource.group, resource.plural + (f"/{subresource}" if subresource else ""), verb)
        for resource, subresource, verbs in REQUIRED_ACCESS
        for verb in verbs
    }
    assert needed - granted == set()


def test_the_role_is_bound_to_the_service_account_alone() -> None:
    documents = rendered()
    binding = only(documents, "ClusterRoleBinding")
    account = only(documents, "ServiceAccount")["metadata"]
    assert binding["roleRef"]["name"] == operator_role()["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
    ]


def test_the_definitions_are_the_generated_ones_and_stay_on_uninstall() -> None:
    definitions = [d for d in rendered() if d["kind"] == "CustomResourceDefinition"]
    assert len(definitions) == 2
    for definition in definitions:
        plural, group = definition["metadata"]["name"].split(".", 1)
        generated = CHART.parents[1] / "crds" / f"{group}_{plural}.yaml"
        assert definition["spec"] == yaml.safe_load(generated.read_text())["spec"]
        assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_the_definition_can_be_left_out() -> None:
    kinds = {document["kind"] for document in rendered("crds.enabled=false")}
    assert "CustomResourceDefinition" not in kinds
    assert "Deployment" in kinds
