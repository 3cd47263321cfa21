"""Waiting: free capacity alone would help. Stalled: it would not. Every refusal says what is missing."""

from __future__ import annotations

import pytest

from diffusion_operator.placement.decision import Refusal
from unit.operator.scenes import Scene
from wrappers import DiffusionDeploymentBuilder as Dd
from wrappers import NodeBuilder, PodBuilder


def refusal(dd: Dd, nodes: list[NodeBuilder], pods: list[PodBuilder] | None = None) -> Refusal:
    found = Scene(nodes, pods or []).decide(dd).refusal
    assert found is not None
    return found


H200 = "NVIDIA-H200"


@pytest.mark.parametrize(
    ("dd", "nodes", "reason", "field", "says"),
    [
        (Dd(), [NodeBuilder("cpu")], "NoGPUNodes", None, "no node offers nvidia.com/gpu"),
        (
            Dd(),
            [NodeBuilder("n").gpus(8, None)],
            "UnknownHardware",
            None,
            "n has no label nvidia.com/gpu.product",
        ),
        (Dd(), [NodeBuilder("n").gpus(8, "ACME-9")], "UnknownHardware", None, "unknown product ACME-9"),
        (
            Dd(),
            [NodeBuilder("n").gpus(8).taint("x")],
            "NoGPUNodes",
            "spec.hardware.tolerations",
            "taint x:NoSchedule",
        ),
        (
            Dd().set("hardware.productIn", ["l40s"]),
            [NodeBuilder("n").gpus(8)],
            "NoGPUNodes",
            "spec.hardware.productIn",
            "n has NVIDIA-H200, not l40s",
        ),
        (
            Dd().set("hardware.minMemory", "200Gi"),
            [NodeBuilder("n").gpus(8)],
            "NoGPUNodes",
            "spec.hardware.minMemory",
            "GPUs of 139.8GiB, less than 200Gi",
        ),
        (
            Dd().set("hardware.nodeSelector", {"zone": "a"}),
            [NodeBuilder("n").gpus(8)],
            "NoGPUNodes",
            "spec.hardware.nodeSelector",
            "label zone is absent, not a",
        ),
        (
            Dd().set("hardware.resourceName", "amd.com/gpu"),
            [NodeBuilder("n").gpus(8)],
            "NoGPUNodes",
            None,
            "no node offers amd.com/gpu",
        ),
        (Dd().gpus_per_replica(16), [NodeBuilder("n").gpus(8)], "InsufficientGPUs", None, "16 GPUs"),
        (
            Dd().model("nope"),
            [NodeBuilder("n").gpus(8)],
            "UnknownModel",
            "spec.model.source.builtIn.name",
            "demo",
        ),
        (
            Dd().set("residency", {"engine": "resident"}),
            [NodeBuilder("n").gpus(8)],
            "InvalidSpec",
            "spec.residency.engine",
            "no such component",
        ),
        (
            Dd().set("workload.shapes", [{"width": 130, "height": 128}]),
            [NodeBuilder("n").gpus(8)],
            "InvalidSpec",
            "spec.workload.shapes[0].width",
            "multiples of 16",
        ),
    ],
)
def test_stalled(dd: Dd, nodes: list[NodeBuilder], reason: str, field: str | None, says: str) -> None:
    found = refusal(dd, nodes)
    assert found.stalled
    assert (found.reason, found.field) == (reason, field)
    assert says in found.message


def test_the_right_gpus_behind_a_taint_speak_before_other_gpus() -> None:
    nodes = [NodeBuilder("a").gpus(8, "NVIDIA-L40S"), NodeBuilder("b").gpus(8, H200).taint("x")]
    found = refusal(Dd().set("hardware.productIn", ["h200"]), nodes)
    assert "b (NVIDIA-H200) has the taint x:NoSchedule" in found.message
    assert found.field == "spec.hardware.tolerations"


def test_taken_gpus_are_waited_for_with_exact_numbers() -> None:
    found = refusal(
        Dd().gpus_per_replica(2), [NodeBuilder("n").gpus(8)], [PodBuilder("other").gpus(7).on("n")]
    )
    assert (found.reason, found.stalled) == ("InsufficientGPUs", False)
    assert (
        found.message == "needs 2 GPUs of one node; the freest node n has 1 of 8 free; default/other holds 7."
    )


def test_waiting_names_the_fewest_gpus_that_would_do() -> None:
    found = refusal(Dd(), [NodeBuilder("n").gpus(8)], [PodBuilder("other").gpus(8).on("n")])
    assert found.message.startswith("needs 1 GPU of one node; ")


def test_cordoned_nodes_are_waited_for() -> None:
    found = refusal(Dd(), [NodeBuilder("n").gpus(8).cordoned()])
    assert (found.reason, found.stalled) == ("InsufficientGPUs", False)
    assert "n is cordoned" in found.message


def test_some_replicas_run_and_the_others_say_what_is_missing() -> None:
    dd = Dd().gpus_per_replica(2).replicas(3)
    decision = Scene([NodeBuilder("n").gpus(4)]).decide(dd)
    assert [group.replicas for group in decision.groups] == [2]
    assert decision.refusal is not None
    assert not decision.refusal.stalled
    assert decision.refusal.message == (
        "1 of 3 replicas waits: needs 2 GPUs of one node; "
        "the freest node n has 0 of 4 free; default/demo holds 4."
    )


def test_too_large_model_is_stalled_with_its_shortfall() -> None:
    dd = Dd().hugging_face("Qwen/Qwen-Image").set("suspend", True).gpus_per_replica(1)
    dd.set("residency", {"transformer": "resident", "text_encoder": "resident", "vae": "resident"})
    found = refusal(dd, [NodeBuilder("n").gpus(1, "NVIDIA-L4")])
    assert (found.reason, found.stalled) == ("InsufficientMemory", True)
    assert "GiB" in found.message


def test_no_replicas_wait_for_nothing() -> None:
    decision = Scene([NodeBuilder("n").gpus(1)], [PodBuilder("other").gpus(1).on("n")]).decide(
        Dd().replicas(0)
    )
    assert decision.refusal is None
    assert [group.replicas for group in decision.groups] == [0]


def test_taint_named_like_the_resource_is_tolerated() -> None:
    decision = Scene([NodeBuilder("n").gpus(1).taint("nvidia.com/gpu", value="present")]).decide(Dd())
    assert decision.refusal is None
