"""The reconciler plans with what node agents report, and works where their kind is not installed."""

from __future__ import annotations

import pytest

from diffusion_operator.kube.client import JsonObjects
from diffusion_operator.kube.errors import NotFound
from diffusion_operator.kube.resources import GPU_NODES, Resource
from unit.reconcile.worlds import World, demo, world
from wrappers import GpuNodeBuilder, agent_pod


def report(made: World, foreign_gib: float, *, ready: bool = True) -> None:
    """The agent of the only node says how much is in use on its only GPU."""
    (node,) = [name for plural, _, name in made.cluster.objects if plural == "nodes"]
    raw = GpuNodeBuilder(node).gpu(140, foreign_gib).build()
    raw["metadata"]["uid"] = "uid-report"
    pod = agent_pod(node, ready=ready).build()
    # As the cluster in memory wants pods: asking for a number of GPUs, and owned by something that is there.
    pod["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": "0"}}
    owner = made.cluster.objects["nodes", "", node]["metadata"]["uid"]
    pod["metadata"]["ownerReferences"] = [{"uid": owner, "controller": False}]
    made.cluster.version += 1
    for obj in (raw, pod):
        obj["metadata"]["resourceVersion"] = str(made.cluster.version)
    made.cluster.objects["gpunodes", "", node] = raw
    made.cluster.objects["pods", "agents", pod["metadata"]["name"]] = pod


async def test_a_gpu_that_is_taken_outside_kubernetes_is_waited_for() -> None:
    made = world(1)
    made.cluster.submit(demo())
    report(made, 139.9)
    await made.reconcile()
    waiting = made.condition("Reconciling")
    assert (waiting["status"], waiting["reason"]) == ("True", "InsufficientMemory")
    assert "has only 0B of memory free" in waiting["message"]
    report(made, 1)
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
    assert made.status()["plan"]["freePerGPU"] == "139.0GiB"


async def test_a_report_without_a_ready_agent_is_passed_over() -> None:
    made = world(1)
    made.cluster.submit(demo())
    report(made, 139.9, ready=False)
    await made.settle()
    assert made.condition("Ready")["status"] == "True"


async def test_a_report_no_longer_counts_once_its_agent_is_not_ready() -> None:
    made = world(1)
    made.cluster.submit(demo())
    report(made, 139.9)
    await made.reconcile()
    assert made.condition("Reconciling")["reason"] == "InsufficientMemory"
    report(made, 139.9, ready=False)
    await made.settle()
    assert made.condition("Ready")["status"] == "True"


async def test_memory_that_fills_up_later_rolls_nothing() -> None:
    made = world(2)
    made.cluster.submit(demo())
    report(made, 1)
    await made.settle()
    written = len(made.cluster.writes)
    report(made, 139.9)
    (pod,) = [name for plural, where, name in made.cluster.objects if (plural, where) == ("pods", "team")]
    (node,) = [name for plural, _, name in made.cluster.objects if plural == "gpunodes"]
    gpus = made.cluster.objects["gpunodes", "", node]["status"]["gpus"]
    gpus.append(
        gpus[0] | {"uuid": "GPU-1", "foreignBytes": 0, "heldBy": [{"namespace": "team", "name": pod}]}
    )
    await made.settle()
    kinds = {kind for _, kind, _ in made.cluster.writes[written:]}
    assert made.condition("Ready")["status"] == "True"
    assert not kinds & {"ConfigMap", "Pod"}


async def test_a_cluster_without_the_kind_is_planned_from_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(1)
    made.cluster.submit(demo())
    listed = made.cluster.list_at

    async def without_kind(
        resource: Resource, *args: str | None, **more: str | None
    ) -> tuple[JsonObjects, str]:
        if resource == GPU_NODES:
            raise NotFound("the server could not find the requested resource", status=404)
        return await listed(resource, *args, **more)

    monkeypatch.setattr(made.cluster, "list_at", without_kind)
    await made.settle()
    assert made.condition("Ready")["status"] == "True"
