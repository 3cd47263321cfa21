"""A field that no code acts on yet is refused by name, and says what works instead."""

from __future__ import annotations

from typing import Any

import pytest

from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder

TERM = {"labelSelector": {"matchLabels": {"a": "b"}}, "topologyKey": "kubernetes.io/hostname"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
SECRET = {"name": "s", "key": "k"}


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("model.source", {"pvc": {"claimName": "c"}}, "spec.model.source.pvc"),
        ("model.source", {"s3": {"bucket": "abc", "prefix": "p"}}, "spec.model.source.s3"),
        ("model.source", {"image": {"reference": "r"}}, "spec.model.source.image"),
        ("model.source", {"huggingFace": {"repo": "Qwen/Qwen-Image"}}, "spec.model.source.huggingFace"),
        ("model.secretRef", {"name": "s"}, "spec.model.secretRef"),
        ("model.variant", "fp16", "spec.model.variant"),
        ("model.loras", [{"name": "l", "source": {"builtIn": {"name": "x"}}}], "spec.model.loras"),
        ("task", "imageToVideo", "spec.task"),
        ("performance.calibrate", "always", "spec.performance.calibrate"),
        ("cache", {"prefetch": True}, "spec.cache"),
        ("pod.affinity.podAntiAffinity", {REQUIRED: [TERM]}, f"spec.pod.affinity.podAntiAffinity.{REQUIRED}"),
    ],
)
def test_refused_by_name(path: str, value: Any, field: str) -> None:
    refusal = Scene([NodeBuilder("n").gpus(8)]).decide(Dd().set(path, value)).refusal
    assert refusal is not None
    assert (refusal.reason, refusal.stalled, refusal.field) == ("NotSupportedYet", True, field)
    assert refusal.message.startswith(f"{field} is not supported yet: ")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("task", "auto"),
        ("performance.calibrate", "never"),
        ("service.apiKeySecretRef", SECRET),
        ("monitoring", {"serviceMonitor": True, "labels": {"a": "b"}}),
        ("model.loras", []),
        ("cache", {}),
    ],
)
def test_what_asks_for_nothing_is_accepted(path: str, value: Any) -> None:
    decision = Scene([NodeBuilder("n").gpus(8)]).decide(Dd().set(path, value))
    assert decision.refusal is None
    assert len(decision.groups) == 1


def test_suspended_hub_model_is_planned_without_pods() -> None:
    dd = Dd().hugging_face("Qwen/Qwen-Image").set("suspend", True)
    decision = Scene([NodeBuilder("n").gpus(8)]).decide(dd)
    assert decision.refusal is None
    assert [group.replicas for group in decision.groups] == [0]
    assert decision.groups[0].plan.model.source == "huggingFace"
