"""`kubectl diffusion promises`: what each status promises, what holds it, and what the nodes have."""

from __future__ import annotations

import json
from typing import Any

import pytest

from diffusion_operator.cli.kubectl import Kubectl
from diffusion_operator.cli.main import main
from diffusion_operator.cli.promises import promises
from diffusion_operator.cli.style import Style
from unit.cli.dds import cluster, condition, deployment, placement, workload
from wrappers import NodeBuilder, PodBuilder


def qwen() -> dict[str, Any]:
    """Three promised replicas of the plan `new`: one has its pod, one waits for it, one for a node."""
    return deployment(placements=[placement(3, gpus=2, plan_hash="new", waitingForNodes=1)])


def busy() -> Kubectl:
    """A roll-out of qwen, another deployment that is promised nothing, and a pod that is not ours."""
    nodes = [NodeBuilder("a").gpus(8).build(), NodeBuilder("b").gpus(4, "NVIDIA-L40S").build()]
    pods = [
        PodBuilder("qwen-new", "pictures").gpus(2).on("a").owned_by("qwen", "h200", "new"),
        PodBuilder("qwen-old", "pictures").gpus(2).on("a").owned_by("qwen", "h200", "old").terminating(),
        PodBuilder("qwen-none", "pictures").gpus(2).owned_by("qwen", "h200", "new"),
        PodBuilder("train", "lab").gpus(1).on("b"),
    ]
    waits = deployment(
        name="flux", namespace="art", conditions=[condition("Ready", "False", "InsufficientGPUs")]
    )
    fresh = deployment(name="wan", namespace="art")
    return cluster(
        nodes=nodes,
        pods=[pod.build() for pod in pods],
        deployments=[workload(3, gpus=2, plan_hash="new")],
        diffusiondeployments=[waits, qwen(), fresh],
    )


def test_promises_pods_and_sums() -> None:
    assert promises(busy(), None, "text", Style()) == (
        "1 promise   6 GPUs\n"
        "\n"
        "  DEPLOYMENT     GROUP  PRODUCT      REPLICAS  GPUS EACH  GPUS  BOUND  WAITING  FOR NODES  LEAVING"
        "  PLAN\n"
        "  pictures/qwen  h200   NVIDIA-H200         3          2     6      1        2          1        1"
        "  new\n"
        "\n"
        "Without a promise\n"
        "  art/flux  InsufficientGPUs\n"
        "  art/wan   not looked at yet\n"
        "\n"
        "  PRODUCT      RESOURCE        GPUS  PROMISED  BOUND  RESERVED  OTHER PODS  FREE  FOR NODES\n"
        "  NVIDIA-H200  nvidia.com/gpu     8         4      4         4           0     0          2\n"
        "  NVIDIA-L40S  nvidia.com/gpu     4         0      0         0           1     3          0\n"
    )


def test_the_same_for_programs() -> None:
    answer = json.loads(promises(busy(), None, "json", Style()))
    assert answer["promises"] == [
        {
            "namespace": "pictures",
            "name": "qwen",
            "group": "h200",
            "product": "NVIDIA-H200",
            "resource": "nvidia.com/gpu",
            "planHash": "new",
            "replicas": 3,
            "gpusPerReplica": 2,
            "gpus": 6,
            "boundPods": 1,
            "waitingPods": 2,
            "waitingForNodes": 1,
            "leavingPods": 1,
        }
    ]
    assert [one["name"] for one in answer["withoutPromise"]] == ["flux", "wan"]
    assert answer["products"][0] == {
        **{"product": "NVIDIA-H200", "resource": "nvidia.com/gpu", "allocatable": 8, "promised": 4},
        **{"bound": 4, "reserved": 4, "otherPods": 0, "free": 0, "forNodes": 2},
    }


def test_a_namespace_narrows_the_list_and_never_the_sums() -> None:
    every, art = (json.loads(promises(busy(), namespace, "json", Style())) for namespace in (None, "art"))
    assert art["promises"] == []
    assert [one["name"] for one in art["withoutPromise"]] == ["flux", "wan"]
    assert art["products"] == every["products"]


def test_a_promise_on_nodes_that_are_gone_is_still_counted() -> None:
    gone = cluster(nodes=[], pods=[], deployments=[], diffusiondeployments=[qwen()])
    (product,) = json.loads(promises(gone, None, "json", Style()))["products"]
    assert (product["allocatable"], product["promised"], product["forNodes"]) == (0, 4, 2)


def test_each_group_counts_its_own_pods() -> None:
    two = deployment(
        placements=[placement(1), {**placement(1, gpus=4), "group": "l40s", "product": "NVIDIA-L40S"}]
    )
    nodes = [NodeBuilder("a").gpus(8).build(), NodeBuilder("b").gpus(4, "NVIDIA-L40S").build()]
    pod = PodBuilder("q", "pictures").gpus(4).on("b").owned_by("qwen", "l40s", "h").build()
    known = cluster(nodes=nodes, pods=[pod], deployments=[], diffusiondeployments=[two])
    found = json.loads(promises(known, None, "json", Style()))["promises"]
    assert [(one["group"], one["boundPods"], one["waitingPods"]) for one in found] == [
        ("h200", 0, 1),
        ("l40s", 1, 0),
    ]


def test_a_cluster_without_deployments_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    known = cluster(nodes=[NodeBuilder("a").gpus(8).build()], pods=[], deployments=[])
    text = promises(known, None, "text", Style())
    assert text.startswith("0 promises   0 GPUs\n\n  PRODUCT")
    with pytest.raises(SystemExit):
        main(["promises", "-o", "yaml"])
    assert "invalid choice: 'yaml'" in capsys.readouterr().err
