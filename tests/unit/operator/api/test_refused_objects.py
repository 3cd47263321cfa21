"""What the schema would refuse is refused here too, naming field, value and what works."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.errors import InvalidSpec
from wrappers import DiffusionDeploymentBuilder as Dd

VOLUME = {"name": "a", "mountPath": "/data", "emptyDir": {}}


@pytest.mark.parametrize(
    ("path", "value", "field", "says"),
    [
        (
            "model.source",
            {},
            "spec.model.source",
            "exactly one of builtIn, huggingFace, pvc, s3, image; none",
        ),
        (
            "model.source",
            {"builtIn": {"name": "demo"}, "pvc": {"claimName": "c"}},
            "spec.model.source",
            "builtIn and pvc is set",
        ),
        ("model.source", {"builtIn": {"name": "Demo!"}}, "spec.model.source.builtIn.name", "'Demo!'"),
        ("model.source", {"huggingFace": {"repo": "../x"}}, "spec.model.source.huggingFace.repo", "'../x'"),
        ("model.source", {"pvc": {"claimName": "c", "path": "/abs"}}, "spec.model.source.pvc.path", "'/abs'"),
        (
            "model.source",
            {"pvc": {"claimName": "c", "path": "a/../b"}},
            "spec.model.source.pvc.path",
            "'a/../b'",
        ),
        ("performance", {"mode": "speed", "bias": 0.5}, "spec.performance", "mode is speed and bias is 0.5"),
        ("performance", {"mode": "Auto"}, "spec.performance.mode", "'manual', 'auto', 'speed' or 'memory'"),
        ("performance", {"bias": 1.5}, "spec.performance.bias", "less than or equal to 1"),
        ("performance", {"memoryReserve": "95%"}, "spec.performance.memoryReserve", "'95%'"),
        ("performance", {"fast": True}, "spec.performance.fast", "kubectl explain dd.spec.performance"),
        ("parallelism", {"gpusPerReplica": 0}, "spec.parallelism.gpusPerReplica", "0 does not work"),
        ("parallelism", {"gpusPerReplica": True}, "spec.parallelism.gpusPerReplica", "True"),
        ("parallelism", {"gpusPerReplica": "2"}, "spec.parallelism.gpusPerReplica", "'2'"),
        ("parallelism", {"gpusPerReplica": 4, "maxGPUsPerReplica": 2}, "spec.parallelism", "4 exceeds 2"),
        ("parallelism", {"gpusPerReplica": 3, "cfg": 2}, "spec.parallelism", "3 is not a multiple of 2"),
        ("parallelism", {"cfg": 3}, "spec.parallelism.cfg", "3 does not work"),
        ("workload", {"guidance": True}, "spec.workload.guidance", 'write "on" or "off"'),
        ("workload", {"shapes": []}, "spec.workload.shapes", "at least 1 item"),
        ("workload", {"shapes": [{"width": 64}]}, "spec.workload.shapes[0].height", "required"),
        (
            "workload",
            {"shapes": [{"width": 1, "height": 64}]},
            "spec.workload.shapes[0].width",
            "1 does not work",
        ),
        ("residency", {"transformer": "gpu"}, "spec.residency.transformer", "'gpu'"),
        ("residency", {"../x": "resident"}, "spec.residency.../x", "component name"),
        ("replicas", -1, "spec.replicas", "-1"),
        ("replicas", 10**9, "spec.replicas", "1000000000"),
        ("hardware", {"minMemory": "lots"}, "spec.hardware.minMemory", "'lots' is not a quantity"),
        (
            "hardware",
            {"tolerations": [{"operator": "Exists", "value": "x"}]},
            "spec.hardware.tolerations[0]",
            "no value",
        ),
        (
            "hardware",
            {"tolerations": [{"value": "x"}]},
            "spec.hardware.tolerations[0]",
            "needs operator Exists",
        ),
        (
            "hardware",
            {"nodeSelector": {"a b": "c"}},
            "spec.hardware.nodeSelector",
            "'a b' is not a label key",
        ),
        ("rollout", {"drainTimeout": "0s"}, "spec.rollout.drainTimeout", "at least 1s"),
        (
            "pod",
            {"labels": {"diffusion-operator.io/group": "x"}},
            "spec.pod.labels.diffusion-operator.io/group",
            "belong",
        ),
        (
            "pod",
            {"labels": {"app.kubernetes.io/name": "x"}},
            "spec.pod.labels.app.kubernetes.io/name",
            "belong",
        ),
        (
            "pod",
            {"annotations": {"diffusion-operator.io/a": "x"}},
            "spec.pod.annotations.diffusion-operator.io/a",
            "belong",
        ),
        (
            "pod",
            {"resources": {"limits": {"nvidia.com/gpu": 1}}},
            "spec.pod.resources.limits.nvidia.com/gpu",
            "the plan",
        ),
        ("pod", {"env": [{"name": "A"}]}, "spec.pod.env[0]", "exactly one of value, secretKeyRef; none"),
        ("pod", {"env": [{"name": "HOME", "value": "/"}]}, "spec.pod.env[0].name", "reserved"),
        (
            "pod",
            {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
            "spec.pod.env[1].name",
            "twice",
        ),
        (
            "pod",
            {"volumes": [VOLUME | {"image": {"reference": "x"}}]},
            "spec.pod.volumes[0]",
            "emptyDir and image",
        ),
        ("pod", {"volumes": [VOLUME | {"mountPath": "/tmp/x"}]}, "spec.pod.volumes[0].mountPath", "'/tmp/x'"),
        ("pod", {"volumes": [VOLUME | {"name": "plan"}]}, "spec.pod.volumes[0].name", "reserved"),
        ("pod", {"volumes": [VOLUME, VOLUME | {"name": "b"}]}, "spec.pod.volumes[1].mountPath", "twice"),
        ("pod", {"hostNetwork": True}, "spec.pod.hostNetwork", "not a field"),
    ],
)
def test_refusal_names_field_and_value(path: str, value: Any, field: str, says: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        DiffusionDeployment.parse(Dd().set(path, value).build())
    assert caught.value.field == field
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a" * 41, "9a", "a.b", "a-", "A", ""])
def test_name_that_cannot_name_children(name: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        DiffusionDeployment.parse(Dd(name).build())
    assert caught.value.field == "metadata.name"


def test_long_values_are_shortened() -> None:
    with pytest.raises(InvalidSpec) as caught:
        DiffusionDeployment.parse(Dd().model("x" * 2**20).build())
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("spec", [None, [], "x", {}])
def test_missing_spec(spec: Any) -> None:
    raw = Dd().build()
    raw["spec"] = spec
    with pytest.raises(InvalidSpec, match=r"^spec"):
        DiffusionDeployment.parse(raw)


def test_a_full_spec_is_accepted_and_keeps_what_is_absent_absent() -> None:
    full = (
        Dd("studio")
        .set("workload", {"shapes": [{"width": 512, "height": 512}], "guidance": "on", "concurrency": 2})
        .set("performance", {"bias": 1, "objective": "latency", "memoryReserve": "2Gi", "device": "cpu"})
        .set(
            "hardware", {"minMemory": "40Gi", "productIn": ["H200"], "tolerations": [{"operator": "Exists"}]}
        )
        .set("pod", {"labels": {"team": "a"}, "resources": {"requests": {"cpu": 2, "memory": "4Gi"}}})
        .set("rollout", {"drainTimeout": "1h30m"})
    )
    parsed = DiffusionDeployment.parse(full.build())
    assert parsed.key == "default/studio"
    assert parsed.spec.to_dict() == full.build()["spec"] | {
        "performance": {"bias": 1.0, "objective": "latency", "memoryReserve": "2Gi", "device": "cpu"}
    }


def test_an_unreadable_status_does_not_make_the_object_unreadable() -> None:
    raw = Dd().build() | {"status": {"plan": "from another version"}}
    assert DiffusionDeployment.parse(raw).name == "demo"
