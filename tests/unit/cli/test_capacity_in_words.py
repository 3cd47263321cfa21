"""`kubectl diffusion capacity` shows what the operator counts with."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from diffusion_operator.cli.capacity import capacity
from diffusion_operator.cli.errors import BadInput
from diffusion_operator.cli.kubectl import Kubectl
from diffusion_operator.cli.style import Style
from wrappers import GpuNodeBuilder, NodeBuilder, PodBuilder, agent_pod

GPU = "nvidia.com/gpu"
NO_KIND = 'error: the server doesn\'t have a resource type "gpunodes"'


def kubectl(**found: list[dict[str, Any]]) -> Kubectl:
    """A cluster with these objects by plural; a plural that is not given has no kind."""

    def run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        plural = command[2].split(".")[0]
        if plural not in found:
            return subprocess.CompletedProcess(list(command), 1, "", NO_KIND)
        return subprocess.CompletedProcess(list(command), 0, json.dumps({"items": found[plural]}), "")

    return Kubectl(run=run)


def nodes() -> list[dict[str, Any]]:
    return [
        NodeBuilder("gpu-1").gpus(4).build(),
        NodeBuilder("gpu-2").gpus(2, "NVIDIA-L40S").cordoned().build(),
        NodeBuilder("gpu-3").gpus(1, "NVIDIA-L4").build(),
        NodeBuilder("cpu").build(),
    ]


def pods() -> list[dict[str, Any]]:
    serving = PodBuilder("q-0").gpus(2).on("gpu-1").owned_by("q", "h200", "h")
    return [pod.build() for pod in (serving, agent_pod("gpu-1"), agent_pod("gpu-2", ready=False))]


def reports() -> list[dict[str, Any]]:
    first = GpuNodeBuilder("gpu-1").gpu(140, 0, "default/q-0").gpu(140, 0, "default/q-0")
    first.gpu(140, 12.5).gpu(140, 0, problem="GPU is lost").host_free(99)
    return [first.build(), GpuNodeBuilder("gpu-2").gpu(44, 40).build()]


def test_nodes_free_held_and_foreign() -> None:
    cluster = kubectl(nodes=nodes(), pods=pods(), deployments=[], gpunodes=reports())
    assert capacity(cluster, GPU, Style()) == (
        "nvidia.com/gpu   5 of 7 GPUs free on 3 nodes\n"
        "\n"
        "  NODE   PRODUCT      GPUS  FREE  HELD  FOREIGN  FREE ON EACH  HOST FREE  AGENT\n"
        "  gpu-1  NVIDIA-H200     4     2     2  12.5GiB      127.5GiB    99.0GiB  reports\n"
        "      held by default/q 2\n"
        "      1 of its GPUs cannot be read; kubectl get gpunode gpu-1 -o yaml\n"
        "  gpu-2  NVIDIA-L40S     2     2     0        -       45.0GiB   256.0GiB  not ready\n"
        "      cordoned\n"
        "  gpu-3  NVIDIA-L4       1     1     0        -       22.5GiB   256.0GiB  none\n"
    )


def test_a_cluster_without_the_kind_shows_labels_and_requests() -> None:
    text = capacity(kubectl(nodes=nodes(), pods=pods(), deployments=[]), GPU, Style())
    assert "gpu-1  NVIDIA-H200     4     2     2        -      140.4GiB   256.0GiB  none" in text


def test_a_resource_that_nobody_offers_names_those_that_are() -> None:
    cluster = kubectl(nodes=nodes(), pods=[], deployments=[])
    with pytest.raises(BadInput, match=r"No node offers amd.com/gpu. Nodes offer: nvidia.com/gpu."):
        capacity(cluster, "amd.com/gpu", Style())
    with pytest.raises(BadInput, match=r"No node offers any device"):
        capacity(kubectl(nodes=[NodeBuilder("cpu").build()], pods=[], deployments=[]), GPU, Style())
