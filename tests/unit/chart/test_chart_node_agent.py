"""The node agent's part of the chart: off by default, and with no right that its page does not explain."""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.rbac import AGENT_RULES
from diffusion_operator.node_agent.pod_resources import SOCKET
from diffusion_operator.node_agent.settings import IDENTITY
from unit.chart.helm import only, rendered, template

ON = "nodeAgent.enabled=true"
NAME = "release-diffusion-operator-node-agent"


def agent_objects(*settings: str) -> dict[str, dict[str, Any]]:
    """The agent's objects by kind."""
    found = [d for d in rendered(ON, *settings) if d["metadata"]["name"].endswith("node-agent")]
    by_kind = {document["kind"]: document for document in found}
    assert len(by_kind) == len(found)
    return by_kind


def agent_pod(*settings: str) -> dict[str, Any]:
    spec: dict[str, Any] = agent_objects(*settings)["DaemonSet"]["spec"]["template"]["spec"]
    return spec


def test_nothing_of_it_is_there_unless_asked_for() -> None:
    assert not [d for d in rendered() if "node-agent" in str(d["metadata"])]
    assert set(agent_objects()) == {
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "DaemonSet",
        "NetworkPolicy",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }


def test_it_lives_in_a_namespace_of_its_own() -> None:
    objects = agent_objects()
    labels = objects["Namespace"]["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    assert {objects[kind]["metadata"]["namespace"] for kind in ("ServiceAccount", "DaemonSet")} == {NAME}
    assert "Namespace" not in agent_objects("nodeAgent.createNamespace=false", "nodeAgent.namespace=gpu")
    refused = template(ON, "nodeAgent.namespace=somewhere")
    assert "nodeAgent.namespace is somewhere, the namespace of the operator" in refused.stderr


def test_one_read_only_host_path_and_no_other_way_to_the_host() -> None:
    spec = agent_pod()
    paths = [volume for volume in spec["volumes"] if "emptyDir" not in volume]
    assert paths == [{"name": "pod-resources", "hostPath": {"path": str(SOCKET.parent), "type": "Directory"}}]
    (container,) = spec["containers"]
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["pod-resources"] == {
        "name": "pod-resources",
        "mountPath": str(SOCKET.parent),
        "readOnly": True,
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)


def test_root_without_any_capability() -> None:
    spec = agent_pod()
    assert spec["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert spec["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_nobody_reaches_it_but_the_kubelet() -> None:
    objects = agent_objects()
    policy, pod = objects["NetworkPolicy"], objects["DaemonSet"]["spec"]["template"]
    assert policy["metadata"]["namespace"] == NAME
    assert (policy["spec"]["policyTypes"], policy["spec"]["ingress"]) == (["Ingress"], [])
    selected = policy["spec"]["podSelector"]["matchLabels"]
    assert selected
    assert selected.items() <= pod["metadata"]["labels"].items()
    assert "NetworkPolicy" not in agent_objects("networkPolicy.enabled=false")


def test_it_sees_all_gpus_and_asks_for_none() -> None:
    spec = agent_pod()
    (container,) = spec["containers"]
    environment = {entry["name"]: entry for entry in container["env"]}
    assert environment["NVIDIA_VISIBLE_DEVICES"]["value"] == "all"
    assert environment["NVIDIA_DRIVER_CAPABILITIES"]["value"] == "utility"
    assert set(IDENTITY.values()) <= set(environment)
    assert not [name for amounts in container["resources"].values() for name in amounts if "/" in name]
    assert spec["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in agent_pod("nodeAgent.runtimeClassName=")


def test_the_role_is_the_generated_one_and_bound_to_its_account_alone() -> None:
    objects = agent_objects()
    assert objects["ClusterRole"]["rules"] == [rule.to_dict() for rule in AGENT_RULES]
    assert objects["ClusterRoleBinding"]["subjects"] == [
        {"kind": "ServiceAccount", "name": NAME, "namespace": NAME}
    ]
    assert objects["ServiceAccount"]["automountServiceAccountToken"] is False


def test_the_policy_names_exactly_this_account_and_fails_closed() -> None:
    objects = agent_objects("nodeAgent.namespace=gpu-agents")
    spec = objects["ValidatingAdmissionPolicy"]["spec"]
    assert spec["failurePolicy"] == "Fail"
    (condition,) = spec["matchConditions"]
    assert f'== "system:serviceaccount:gpu-agents:{NAME}"' in condition["expression"]
    assert spec["matchConstraints"]["resourceRules"][0]["operations"] == ["CREATE", "UPDATE"]
    binding = objects["ValidatingAdmissionPolicyBinding"]["spec"]
    assert binding == {"policyName": NAME, "validationActions": ["Deny"]}


def test_placement_settings_arrive_and_labels_cannot_break_the_selector() -> None:
    daemon_set = agent_objects(
        "nodeAgent.podLabels.app\\.kubernetes\\.io/name=other",
        "nodeAgent.nodeSelector.pool=gpu",
        "nodeAgent.priorityClassName=high",
        "imagePullSecrets[0].name=login",
    )["DaemonSet"]["spec"]
    labels = daemon_set["template"]["metadata"]["labels"]
    assert daemon_set["selector"]["matchLabels"].items() <= labels.items()
    spec = daemon_set["template"]["spec"]
    assert spec["nodeSelector"] == {"nvidia.com/gpu.present": "true", "pool": "gpu"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists"}]
    assert (spec["priorityClassName"], spec["imagePullSecrets"]) == ("high", [{"name": "login"}])


def test_the_operator_is_the_same_with_and_without_it() -> None:
    assert only(rendered(ON), "Deployment") == only(rendered(), "Deployment")
