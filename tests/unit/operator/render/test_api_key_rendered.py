"""The API key reaches the engine through the kubelet; nothing of it passes through the operator."""

from __future__ import annotations

from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.render.children import render_children
from diffusion_runtime.server.api_key import KEY_VARIABLE
from unit.operator.scenes import SETTINGS, Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder


def engine(dd: Dd) -> dict[str, Any]:
    decision = Scene([NodeBuilder("n").gpus(8)]).decide(dd)
    manifests = render_children(DiffusionDeployment.parse(dd.build()), decision, SETTINGS)
    container: dict[str, Any] = manifests[-1]["spec"]["template"]["spec"]["containers"][0]
    return container


def test_the_key_is_a_reference() -> None:
    secret = {"name": "keys", "key": "demo"}
    environment = engine(Dd().set("service", {"apiKeySecretRef": secret}))["env"]
    assert {"name": KEY_VARIABLE, "valueFrom": {"secretKeyRef": secret}} in environment


def test_without_one_the_variable_is_absent() -> None:
    assert KEY_VARIABLE not in [entry["name"] for entry in engine(Dd())["env"]]
