"""What a scrape of the operator shows of its queue, its calls, its deployments and the cluster's GPUs."""

from __future__ import annotations

from diffusion_operator.inventory.ledger_build import build_ledger
from diffusion_operator.inventory.objects import parse_node, parse_pod
from diffusion_operator.inventory.totals import GpuTotals, gpu_totals
from diffusion_operator.kube.resources import DIFFUSION_DEPLOYMENTS, PODS
from diffusion_operator.reconcile.keys import DeploymentKey, Key
from diffusion_operator.reconcile.metrics import Metrics
from diffusion_operator.reconcile.queue import KeyedQueue
from diffusion_operator.reconcile.worker import _serve
from diffusion_runtime.planning.documents import PhaseMeasurement
from unit.reconcile.test_queue_semantics import ManualTimers
from unit.reconcile.worlds import World, demo, world
from wrappers import NodeBuilder, PodBuilder

KEY = DeploymentKey("team", "demo")


async def pass_of(made: World, metrics: Metrics) -> str:
    metrics.watch_capacity(made.reconciler.gpu_totals)
    await made.mirror.refresh(made.cluster)
    await _serve(KEY, KeyedQueue[Key](ManualTimers()), made.reconciler, metrics)
    return metrics.text().decode()


async def test_a_deployment_and_its_gpus_are_seen_and_forgotten() -> None:
    made, metrics = world(8), Metrics()
    made.cluster.submit(demo(gpus=2))
    await made.settle()
    text = await pass_of(made, metrics)
    labels = 'name="demo",namespace="team"'
    assert f'diffusion_operator_deployment_condition{{{labels},type="Ready"}} 1.0' in text
    assert f'diffusion_operator_deployment_condition{{{labels},type="Stalled"}} 0.0' in text
    (peak,) = [
        line for line in text.splitlines() if line.startswith("diffusion_operator_deployment_predicted")
    ]
    assert float(peak.split()[-1]) > 2**20
    assert 'diffusion_operator_plans_total{outcome="planned",reason="Ready"} 1.0' in text
    assert "deployment_measured_peak_bytes{" not in text  # engines on the CPU measure no GPU
    of = 'product="NVIDIA-H200",resource="nvidia.com/gpu"'
    assert f"diffusion_operator_gpus_allocatable{{{of}}} 8.0" in text
    assert f"diffusion_operator_gpus_promised{{{of}}} 2.0" in text
    assert f"diffusion_operator_gpus_free{{{of}}} 6.0" in text

    made.cluster.remove(DIFFUSION_DEPLOYMENTS, "demo")
    assert 'name="demo"' not in await pass_of(made, metrics)


async def test_the_highest_measured_peak_of_all_pods_and_phases() -> None:
    made, metrics = world(8), Metrics()
    made.cluster.submit(demo(replicas=2))
    await made.settle()
    one, two = made.cluster.names(PODS)
    made.cluster.measured = {
        one: {"phases": {"text": PhaseMeasurement(driver_bytes=5 << 30, reserved_bytes=9 << 30)}},
        two: {"phases": {"text": PhaseMeasurement(reserved_bytes=6 << 30), "decode": PhaseMeasurement()}},
    }
    # Driver bytes count where a driver shows any; what torch reserved stands in for them.
    peak = 'diffusion_operator_deployment_measured_peak_bytes{name="demo",namespace="team"} '
    (line,) = [line for line in (await pass_of(made, metrics)).splitlines() if line.startswith(peak)]
    assert float(line.removeprefix(peak)) == 6 << 30
    made.cluster.measured = {}
    assert peak not in await pass_of(made, metrics)


async def test_decisions_are_counted_by_outcome_and_reason() -> None:
    made, metrics = world(2), Metrics()
    made.cluster.submit(demo(replicas=4))
    text = await pass_of(made, metrics)
    assert 'plans_total{outcome="partial",reason="Progressing"} 1.0' in text
    await made.settle()
    for _ in range(2):
        text = await pass_of(made, metrics)
    assert 'plans_total{outcome="partial",reason="Ready"} 2.0' in text
    made.cluster.submit(demo(gpus=8))
    text = await pass_of(made, metrics)
    assert 'plans_total{outcome="refused",reason="InsufficientGPUs"} 1.0' in text
    made.cluster.remove(DIFFUSION_DEPLOYMENTS, "demo")
    assert 'plans_total{outcome="none",reason="Gone"} 1.0' in await pass_of(made, metrics)


def test_totals_count_foreign_pods_as_neither_free_nor_promised() -> None:
    nodes = [NodeBuilder("a").gpus(8), NodeBuilder("b").gpus(4, "NVIDIA-L40S")]
    pods = [
        PodBuilder("foreign").gpus(3).on("a"),
        PodBuilder("ours").gpus(2).on("b").owned_by("demo", "l40s", "h"),
    ]
    ledger = build_ledger(
        [parse_node(node.build()) for node in nodes], [parse_pod(pod.build()) for pod in pods], []
    )
    assert gpu_totals(ledger) == (
        GpuTotals("NVIDIA-H200", "nvidia.com/gpu", allocatable=8, promised=0, free=5, others=3),
        GpuTotals("NVIDIA-L40S", "nvidia.com/gpu", allocatable=4, promised=2, free=2),
    )


async def test_the_oldest_due_key_counts_from_when_it_became_due() -> None:
    timers = ManualTimers()
    queue: KeyedQueue[str] = KeyedQueue(timers)
    assert queue.oldest_s == 0.0
    queue.add("a")
    timers.advance(5)
    queue.add("b")
    queue.add("a")
    assert queue.oldest_s == 5.0
    assert await queue.get() == "a"
    assert queue.oldest_s == 0.0
    timers.advance(2)
    queue.add("a")  # due again while it runs
    assert await queue.get() == "b"
    timers.advance(3)
    assert queue.oldest_s == 3.0
    queue.done("a")
    assert queue.oldest_s == 3.0


def test_calls_leader_and_queue() -> None:
    metrics = Metrics()
    metrics.watch_queue(lambda: 2, lambda: 1.5, lambda: 3)
    metrics.set_leader(True)
    metrics.observe_call("GET", "pods", 200, 0.02)
    metrics.observe_call("GET", "pods", 0, 30.0)
    lines = metrics.text().decode().splitlines()
    for line in (
        "diffusion_operator_queue_depth 2.0",
        "diffusion_operator_queue_oldest_seconds 1.5",
        "diffusion_operator_waiting 3.0",
        "diffusion_operator_leader 1.0",
        'diffusion_operator_api_calls_total{code="0",resource="pods",verb="GET"} 1.0',
        'diffusion_operator_api_call_duration_seconds_bucket{le="0.025",verb="GET"} 1.0',
        'diffusion_operator_api_call_duration_seconds_count{verb="GET"} 2.0',
    ):
        assert line in lines
