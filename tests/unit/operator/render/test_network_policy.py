"""Port 9000 of engines is open to the operator's and the monitoring namespaces, port 8000 as installed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.render.children import render_children
from diffusion_operator.render.settings import NetworkPolicySettings
from diffusion_operator.settings import read_settings
from unit.operator.scenes import SETTINGS, Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

INGRESS_NAMESPACE = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateway"}}}


def children(policy: NetworkPolicySettings | None) -> dict[str, dict[str, Any]]:
    dd = Dd()
    decision = Scene([NodeBuilder("n").gpus(8)]).decide(dd)
    settings = replace(SETTINGS, network_policy=policy)
    manifests = render_children(DiffusionDeployment.parse(dd.build()), decision, settings)
    return {manifest["kind"]: manifest for manifest in manifests}


def test_management_is_for_two_namespaces_and_the_api_for_everybody() -> None:
    made = children(NetworkPolicySettings("operator", ("monitoring", "operator")))
    spec = made["NetworkPolicy"]["spec"]
    api, management = spec["ingress"]
    assert spec["policyTypes"] == ["Ingress"]
    assert api == {"ports": [{"port": 8000, "protocol": "TCP"}]}
    assert management["ports"] == [{"port": 9000, "protocol": "TCP"}]
    names = [p["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"] for p in management["from"]]
    assert names == ["operator", "monitoring"]


def test_it_selects_the_pods_and_the_ports_that_are_rendered() -> None:
    made = children(NetworkPolicySettings("operator"))
    selected = made["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]
    template = made["Deployment"]["spec"]["template"]
    assert selected.items() <= template["metadata"]["labels"].items()
    assert made["Service"]["spec"]["selector"] == selected
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    rules = made["NetworkPolicy"]["spec"]["ingress"]
    assert [rule["ports"][0]["port"] for rule in rules] == [ports["http"], ports["management"]]


def test_the_api_can_be_kept_for_some() -> None:
    made = children(NetworkPolicySettings("operator", api_from=(INGRESS_NAMESPACE,)))
    assert made["NetworkPolicy"]["spec"]["ingress"][0]["from"] == [INGRESS_NAMESPACE]


def test_without_the_setting_there_is_none() -> None:
    assert "NetworkPolicy" not in children(None)


def test_the_setting_is_read_from_the_environment() -> None:
    text = '{"operatorNamespace": "op", "monitoringNamespaces": ["mon"], "apiFrom": [{"podSelector": {}}]}'
    environment = {"DIFFUSION_ENGINE_IMAGE": "e:1", "DIFFUSION_NETWORK_POLICY": text}
    read = read_settings([], environment).render.network_policy
    assert read == NetworkPolicySettings("op", ("mon",), ({"podSelector": {}},))
    assert read_settings([], {"DIFFUSION_ENGINE_IMAGE": "e:1"}).render.network_policy is None


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "it: Invalid JSON"), ("{}", "operatorNamespace: Field required"), ('{"a": 1}', "Extra inputs")],
)
def test_a_wrong_setting_ends_the_start_in_one_sentence(
    text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        read_settings([], {"DIFFUSION_ENGINE_IMAGE": "e:1", "DIFFUSION_NETWORK_POLICY": text})
    assert ended.value.code == 2
    assert "--network-policy is not what is expected: " in (printed := capsys.readouterr().err)
    assert words in printed or "Field required" in printed
