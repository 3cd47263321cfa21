"""Who holds which GPU, asked of a real gRPC server on a unix socket."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from builders.fake_kubelet import FakeKubelet, serving
from diffusion_operator.node_agent.pod_resources import KubeletSilent, PodName, PodResources

GPU = "nvidia.com/gpu"


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "kubelet.sock"


@pytest.fixture
def client(socket: Path) -> Iterator[PodResources]:
    resources = PodResources(socket, timeout_s=2.0)
    yield resources
    resources.close()


def pods(*names: str) -> frozenset[PodName]:
    return frozenset(PodName(*name.split("/")) for name in names)


def test_devices_by_pod_whatever_resource_they_were_asked_by(socket: Path, client: PodResources) -> None:
    held = {
        "team/a": {GPU: ["GPU-1", "GPU-2"], "other.com/nic": ["eth7"]},
        "team/b": {"nvidia.com/gpu.shared": ["GPU-3::0"]},
        "kube/c": {"nvidia.com/gpu.shared": ["GPU-3::1"]},
        "team/d": {"nvidia.com/mig-1g.10gb": ["MIG-4"]},
        "team/idle": {},
    }
    with serving(FakeKubelet(held), socket):
        assert client.holders() == {
            "GPU-1": pods("team/a"),
            "GPU-2": pods("team/a"),
            "eth7": pods("team/a"),
            "GPU-3": pods("team/b", "kube/c"),
            "MIG-4": pods("team/d"),
        }


def test_a_long_answer_is_read_whole(socket: Path, client: PodResources) -> None:
    held = {f"team/{'p' * 200}-{i}": {GPU: [f"GPU-{i}-{'x' * 4000}"]} for i in range(1500)}
    with serving(FakeKubelet(held), socket):
        assert len(client.holders()) == 1500


def test_a_kubelet_that_restarts_is_found_again(socket: Path, client: PodResources) -> None:
    kubelet = FakeKubelet({"team/a": {GPU: ["GPU-1"]}})
    with serving(kubelet, socket):
        assert set(client.holders()) == {"GPU-1"}
    kubelet.held = {}
    with serving(kubelet, socket):
        assert client.holders() == {}


def test_no_kubelet_is_one_sentence(socket: Path) -> None:
    client = PodResources(socket, timeout_s=0.2)
    with pytest.raises(KubeletSilent, match="does not say which pod holds which GPU: DEADLINE_EXCEEDED"):
        client.holders()
    client.close()


def test_a_kubelet_that_refuses_is_quoted(socket: Path, client: PodResources) -> None:
    kubelet = FakeKubelet()
    kubelet.refuse = grpc.StatusCode.RESOURCE_EXHAUSTED
    with (
        serving(kubelet, socket),
        pytest.raises(KubeletSilent, match="RESOURCE_EXHAUSTED: as the test asked"),
    ):
        client.holders()
