"""`kubectl diffusion capacity` shows what the operator counts with."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.cli.capacity import capacity
from diffusion_operator.cli.errors import BadInput
from diffusion_operator.cli.style import Style
from unit.cli.dds import cluster, deployment, placement
from wrappers import GpuNodeBuilder, NodeBuilder, PodBuilder, agent_pod

GPU = "nvidia.com/gpu"


def nodes() -> list[dict[str, Any]]:
    return [
        NodeBuilder("gpu-1").gpus(4).build(),
        NodeBuilder("gpu-2").gpus(2, "NVIDIA-L40S").cordoned().build(),
        NodeBuilder("gpu-3").gpus(1, "NVIDIA-L4").build(),
        NodeBuilder("cpu").build(),
    ]


def pods() -> list[dict[str, Any]]:
    serving = PodBuilder("q-0").gpus(2).on("gpu-1").owned_by("q", "h200", "h")
    training = PodBuilder("train", "lab").gpus(1).on("gpu-3")
    agents = (agent_pod("gpu-1"), agent_pod("gpu-2", ready=False))
    return [pod.build() for pod in (serving, training, *agents)]


def reports() -> list[dict[str, Any]]:
    first = GpuNodeBuilder("gpu-1").gpu(140, 0, "default/q-0").gpu(140, 0, "default/q-0")
    first.gpu(140, 12.5).gpu(140, 0, problem="GPU is lost").host_free(99)
    return [first.build(), GpuNodeBuilder("gpu-2").gpu(44, 40).build()]


def promising(replicas: int) -> dict[str, Any]:
    """A deployment whose status promises replicas of two GPUs."""
    return deployment(placements=[placement(replicas, gpus=2)], name="q", namespace="default")


def test_nodes_free_held_reserved_and_foreign() -> None:
    known = cluster(
        nodes=nodes(), pods=pods(), deployments=[], gpunodes=reports(), diffusiondeployments=[promising(2)]
    )
    assert capacity(known, GPU, Style()) == (
        "nvidia.com/gpu   2 of 7 GPUs free on 3 nodes\n"
        "\n"
        "  NODE   PRODUCT      GPUS  FREE  BOUND  RESERVED  OTHER PODS  FOREIGN  FREE ON EACH  HOST FREE  "
        "AGENT\n"
        "  gpu-1  NVIDIA-H200     4     0      2         2           0  12.5GiB             -    99.0GiB  "
        "reports\n"
        "      default/q: 2 bound, 2 reserved\n"
        "      1 of its GPUs cannot be read; kubectl get gpunode gpu-1 -o yaml\n"
        "  gpu-2  NVIDIA-L40S     2     2      0         0           0        -       45.0GiB   256.0GiB  "
        "not ready\n"
        "      cordoned\n"
        "  gpu-3  NVIDIA-L4       1     0      0         0           1        -             -   256.0GiB  "
        "none\n"
        "      lab/train: 1 held by this other pod\n"
    )


def test_what_serves_is_not_reserved_twice() -> None:
    known = cluster(
        nodes=nodes(), pods=pods(), deployments=[], gpunodes=reports(), diffusiondeployments=[promising(1)]
    )
    line = capacity(known, GPU, Style()).splitlines()[3]
    assert line.split() == [
        "gpu-1",
        "NVIDIA-H200",
        "4",
        "2",
        "2",
        "0",
        "0",
        "12.5GiB",
        "127.5GiB",
        "99.0GiB",
        "reports",
    ]


def test_a_cluster_without_the_kind_shows_labels_and_requests() -> None:
    text = capacity(cluster(nodes=nodes(), pods=pods(), deployments=[]), GPU, Style())
    (line,) = [line for line in text.splitlines() if "gpu-1" in line]
    assert line.split() == [
        *("gpu-1", "NVIDIA-H200", "4", "2", "2", "0", "0", "-", "140.4GiB", "256.0GiB", "none"),
    ]


def test_a_resource_that_nobody_offers_names_those_that_are() -> None:
    known = cluster(nodes=nodes(), pods=[], deployments=[])
    with pytest.raises(BadInput, match=r"No node offers amd.com/gpu. Nodes offer: nvidia.com/gpu."):
        capacity(known, "amd.com/gpu", Style())
    with pytest.raises(BadInput, match=r"No node offers any device"):
        capacity(cluster(nodes=[NodeBuilder("cpu").build()], pods=[], deployments=[]), GPU, Style())
