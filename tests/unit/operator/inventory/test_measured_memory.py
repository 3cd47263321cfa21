"""Free bytes from node agents: what counts, for whom, and when a report counts at all."""

from __future__ import annotations

from typing import Any

import pytest

from diffusion_operator.inventory.claims import NodeCapacity
from diffusion_operator.inventory.gpu_nodes import MeasuredRoom, parse_gpu_node
from diffusion_operator.inventory.ledger_build import build_ledger, with_reports
from diffusion_operator.inventory.objects import parse_node, parse_pod
from diffusion_operator.inventory.requests import BadObject
from wrappers import GpuNodeBuilder, NodeBuilder, PodBuilder, agent_pod

GPU = "nvidia.com/gpu"
GIB = 2**30
OWNER = "default/a"


def view(
    report: GpuNodeBuilder, *pods: PodBuilder, owner: str | None = None, memory: str = "256Gi"
) -> NodeCapacity:
    node = NodeBuilder("n").gpus(len(report.build()["status"]["gpus"])).memory(memory)
    ledger = build_ledger(
        [parse_node(node.build())],
        [parse_pod(pod.build()) for pod in pods],
        [],
        reports=[parse_gpu_node(report.build())],
    )
    return ledger.capacity(owner, GPU)[0]


def own_pod(name: str, gpus: int = 1) -> PodBuilder:
    return PodBuilder(name).gpus(gpus).on("n").owned_by("a", "h200", "h")


def test_a_new_pod_counts_on_the_least_free_of_the_gpus_it_may_get() -> None:
    found = view(GpuNodeBuilder("n").gpu(80).gpu(80, 20).gpu(80, 70, "default/b"), agent_pod("n"), foreign())
    assert found.room == MeasuredRoom((), 60 * GIB)
    assert found.free == 2


def test_gpus_of_the_pods_to_be_replaced_count_with_all_but_foreign_bytes() -> None:
    report = GpuNodeBuilder("n").gpu(80, 10, "default/p").gpu(80, 30)
    pods = (agent_pod("n"), own_pod("p"))
    assert view(report, *pods, owner=OWNER).room == MeasuredRoom((70 * GIB,), 50 * GIB)
    assert view(report, *pods, owner="default/other").room == MeasuredRoom((), 50 * GIB)


def test_a_holder_that_is_gone_holds_nothing() -> None:
    report = GpuNodeBuilder("n").gpu(80, 5, "default/gone")
    assert view(report, agent_pod("n")).room == MeasuredRoom((), 75 * GIB)


def test_unreadable_and_sliced_gpus_say_nothing() -> None:
    report = GpuNodeBuilder("n").gpu(80, 0, mig=True).gpu(80, 79, problem="GPU is lost")
    assert view(report, agent_pod("n")).room == MeasuredRoom((), None)
    assert parse_gpu_node(report.build()).unreadable == 1


def test_the_drivers_own_bytes_are_not_free_and_numbers_are_rounded_down() -> None:
    report = GpuNodeBuilder("n").gpu(80, 1.2, reservedBytes=GIB // 4)
    assert view(report, agent_pod("n")).room == MeasuredRoom((), int(78.5 * GIB))


@pytest.mark.parametrize(
    "pods",
    [
        (),
        (agent_pod("n", ready=False),),
        (agent_pod("n").terminating(),),
        (agent_pod("other"),),
        (PodBuilder("newer-agent", "agents").on("n").ready(),),
    ],
    ids=["no-agent", "not-ready", "leaving", "elsewhere", "another-pod"],
)
def test_a_report_counts_only_while_its_writer_is_ready(pods: tuple[PodBuilder, ...]) -> None:
    assert view(GpuNodeBuilder("n").gpu(80, 70).host_free(1), *pods).room is None
    assert view(GpuNodeBuilder("n").gpu(80, 70).host_free(1), *pods).host_free_bytes == 256 * GIB


def test_host_memory_is_the_lesser_of_requested_and_measured() -> None:
    report = GpuNodeBuilder("n").gpu(80).host_free(100.7)
    assert view(report, agent_pod("n")).host_free_bytes == 100 * GIB
    assert view(report, agent_pod("n"), memory="64Gi").host_free_bytes == 64 * GIB


def test_host_memory_of_own_pods_is_free_for_their_owner() -> None:
    report = GpuNodeBuilder("n").gpu(80).host_free(100)
    pods = (agent_pod("n"), own_pod("p").request("memory", "50Gi"))
    assert view(report, *pods, owner=OWNER).host_free_bytes == 150 * GIB
    assert view(report, *pods, owner="default/other").host_free_bytes == 100 * GIB


@pytest.mark.parametrize(
    ("room", "free", "needed", "fitting"),
    [
        (MeasuredRoom((70, 60), 50), 4, 50, 4),
        (MeasuredRoom((70, 60), 50), 4, 60, 2),
        (MeasuredRoom((70, 60), 50), 4, 70, 2),
        (MeasuredRoom((70, 60), 50), 1, 70, 1),
        (MeasuredRoom((70, 60), 50), 1, 50, 1),
        (MeasuredRoom((70,), None), 3, 60, 3),
    ],
)
def test_pods_that_run_stay_and_others_need_room(
    room: MeasuredRoom, free: int, needed: int, fitting: int
) -> None:
    assert room.fitting(free, needed) == fitting


def test_reports_can_be_exchanged_alone() -> None:
    ledger = build_ledger([parse_node(NodeBuilder("n").gpus(1).build())], [], [])
    report = parse_gpu_node(GpuNodeBuilder("n").gpu(80, 30).build())
    assert ledger.capacity(None, GPU)[0].room is None
    busy = with_reports(ledger, {"n": report})
    assert busy.capacity(None, GPU)[0].room == MeasuredRoom((), 50 * GIB)
    assert with_reports(busy, {}).capacity(None, GPU) == ledger.capacity(None, GPU)


@pytest.mark.parametrize("value", ["12", -1, True, 1.5])
def test_numbers_that_are_none_are_named(value: Any) -> None:
    with pytest.raises(BadObject, match=r"gpunode n: status.gpus\[0\].foreignBytes: .* is not a number"):
        parse_gpu_node(GpuNodeBuilder("n").gpu(80, foreignBytes=value).build())


def foreign() -> PodBuilder:
    return PodBuilder("b").gpus(1).on("n")
