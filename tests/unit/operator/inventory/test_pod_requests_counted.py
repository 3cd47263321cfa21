"""Requests of a pod are counted as the scheduler counts them."""

from __future__ import annotations

import pytest

from diffusion_operator.inventory.objects import parse_pod
from diffusion_operator.inventory.requests import BadObject, pod_requests
from wrappers import PodBuilder

GPU = "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("pod", "gpus"),
    [
        (PodBuilder("plain").gpus(2), 2),
        (PodBuilder("two").gpus(2).container(gpu="1"), 3),
        (PodBuilder("init-smaller").gpus(2).init_container(gpu="1"), 2),
        (PodBuilder("init-larger").gpus(2).init_container(gpu="5"), 5),
        (PodBuilder("inits-run-one-by-one").gpus(1).init_container(gpu="2").init_container(gpu="2"), 2),
        (PodBuilder("sidecar").gpus(2).init_container(sidecar=True, gpu="1"), 3),
        (
            PodBuilder("init-beside-sidecar")
            .gpus(1)
            .init_container(sidecar=True, gpu="1")
            .init_container(gpu="3"),
            4,
        ),
        (
            PodBuilder("init-before-sidecar")
            .gpus(1)
            .init_container(gpu="3")
            .init_container(sidecar=True, gpu="1"),
            3,
        ),
    ],
)
def test_effective_gpus(pod: PodBuilder, gpus: int) -> None:
    assert parse_pod(pod.build()).extended == {GPU: gpus}


def test_memory_and_overhead() -> None:
    raw = PodBuilder("a").request("memory", "1Gi").build()
    raw["spec"]["overhead"] = {"memory": "64Mi"}
    assert parse_pod(raw).memory_bytes == 2**30 + 64 * 2**20


def test_limits_stand_in_for_missing_requests() -> None:
    spec = {
        "containers": [{"resources": {"limits": {GPU: "2", "memory": "1Gi"}, "requests": {"memory": "1Mi"}}}]
    }
    assert pod_requests("template", spec) == ({GPU: 2}, 2**20)


@pytest.mark.parametrize("bad", ["many", "1.5", "-1", None])
def test_unreadable_amount_names_pod_field_and_value(bad: str | None) -> None:
    raw = PodBuilder("broken").build()
    raw["spec"]["containers"][0]["resources"] = {"requests": {GPU: bad}}
    with pytest.raises(
        BadObject, match=r"pod default/broken: spec.containers\[0\].resources.nvidia.com/gpu: "
    ):
        parse_pod(raw)
