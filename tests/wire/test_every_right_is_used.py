"""The roles are minimal: who has one uses every right in it, needs no other, and says which one is missing.

The operator's cluster role, its role for the Lease, and the node agent's. The server answers 403 to whatever
the role does not allow, as RBAC does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from diffusion_operator import main
from diffusion_operator.api.rbac import AGENT_RULES, CLUSTER_RULES, OWN_RULES, Rule
from diffusion_operator.kube.errors import Forbidden
from diffusion_operator.kube.lease import Lease, LeaseLost, LeaseSettings
from diffusion_operator.kube.reports import ReportUnavailable
from diffusion_operator.kube.rest import ClientSettings, RestKubeClient, load_configuration
from diffusion_operator.node_agent.agent import Agent
from diffusion_operator.node_agent.nvml import GpuReading, Memory, NvmlReading
from diffusion_operator.node_agent.pod_resources import Holders
from diffusion_operator.node_agent.report import Identity
from diffusion_operator.reconcile.keys import DeploymentKey, Key
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.reconcile.queue import KeyedQueue
from diffusion_operator.reconcile.story import Reconciler
from diffusion_operator.reconcile.streams import Streams
from diffusion_operator.reconcile.worker import resync
from diffusion_operator.render.settings import NetworkPolicySettings, RenderSettings
from diffusion_operator.watch import watch
from wire.fakeapi import FakeApi, Right, fake_api, kubeconfig
from wire.test_process_on_the_wire import DDS, DEMO, said_by, settings
from wire.test_watch_on_the_wire import WATCHED

KEY = DeploymentKey("team", "demo")
GUARDED = RenderSettings("engine:test", network_policy=NetworkPolicySettings("operator", ("monitoring",)))
HUB = {"huggingFace": {"repo": "tiny/qwen"}}
UNGUARDED = RenderSettings("engine:test")


def rights(rules: Iterable[Rule]) -> frozenset[Right]:
    return frozenset(
        (group, resource, verb)
        for rule in rules
        for group in rule.groups
        for resource in rule.resources
        for verb in rule.verbs
    )


class NoReports:
    """No engine answers here."""

    async def read(self, pod_ip: str) -> Any:
        raise ReportUnavailable("no engine in this test")

    async def progress(self, pod_ip: str) -> Any:
        raise ReportUnavailable("no fetch in this test")


class Story:
    """One deployment's life, step by step; what the role forbids is noted and the next step is tried."""

    def __init__(self, api: FakeApi, client: RestKubeClient) -> None:
        self.api, self.client = api, client
        self.forbidden: list[str] = []

    async def live(self) -> None:
        """Created, changed, moved to other hardware, told twice, and left without extras."""
        self.put_node("NVIDIA-H200")
        self.put(gpus=1, monitoring={"serviceMonitor": True})
        await self.reconcile(GUARDED)
        self.put(gpus=2, monitoring={"serviceMonitor": True})
        await self.reconcile(GUARDED)  # another plan: the old one is deleted
        self.put_node("NVIDIA-L40S")
        await self.reconcile(GUARDED)
        self.settle()
        await self.reconcile(GUARDED)  # another product: the old Deployment is deleted
        self.put(gpus=2, monitoring={"serviceMonitor": True}, model={"source": HUB})
        await self.reconcile(GUARDED)  # a Job looks at the model
        self.strip_labels()
        await self.reconcile(GUARDED)  # the Job was edited by hand
        self.put(gpus=2, monitoring={"serviceMonitor": True})
        await self.reconcile(GUARDED)  # so were the other children; the Job is not needed any more
        for _ in range(2):
            self.api.objects[DEMO].pop("status", None)
            await self.reconcile(GUARDED)  # the status was lost: the same Event twice
        self.put(gpus=2)
        await self.reconcile(UNGUARDED)  # NetworkPolicy and ServiceMonitor are deleted

    async def reconcile(self, given: RenderSettings) -> None:
        try:
            mirror = Mirror()
            await mirror.refresh(self.client)
            reconciler = Reconciler(self.client, mirror, NoReports(), given)
            try:
                await reconciler.reconcile(KEY)
            finally:
                await reconciler.events.flush()
        except Forbidden as error:
            self.forbidden.append(str(error))

    def put(self, gpus: int, **spec: Any) -> None:
        live = self.api.objects.get(DEMO, {"metadata": {"generation": 0}})
        source = {"model": {"source": {"builtIn": {"name": "demo"}}}, "replicas": 1}
        plan = {"performance": {"device": "cpu"}, "parallelism": {"gpusPerReplica": gpus}}
        dd = {
            "apiVersion": "diffusion-operator.io/v1alpha1",
            "kind": "DiffusionDeployment",
            "metadata": {
                "name": "demo",
                "namespace": "team",
                "uid": "uid-demo",
                "generation": live["metadata"]["generation"] + 1,
            },
            "spec": {**source, **plan, **spec},
        }
        self.api.put(DDS, dd | ({"status": live["status"]} if "status" in live else {}))

    def put_node(self, product: str) -> None:
        labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.memory": "46068"}
        status = {
            "allocatable": {"nvidia.com/gpu": "8", "memory": "500Gi", "cpu": "64"},
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self.api.put("/api/v1/nodes", {"metadata": {"name": "n", "labels": labels}, "status": status})

    def strip_labels(self) -> None:
        """Somebody took the labels off all children, and left a mark of their own."""
        self.api.contested = True
        for live in self.api.objects.values():
            if any(owner.get("uid") == "uid-demo" for owner in live["metadata"].get("ownerReferences", ())):
                live["metadata"] = {k: v for k, v in live["metadata"].items() if k != "labels"}

    def settle(self) -> None:
        """The Deployment controller has done its work."""
        for path, live in self.api.objects.items():
            if "/deployments/" in path:
                count = live["spec"]["replicas"]
                live["metadata"]["generation"] = 1
                live["status"] = {
                    "observedGeneration": 1,
                    **dict.fromkeys(
                        ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), count
                    ),
                }


async def client_of(api: FakeApi, folder: Path) -> tuple[RestKubeClient, ClientSettings]:
    config = folder / "kubeconfig"
    config.write_text(json.dumps(kubeconfig(api.url)))
    given = ClientSettings(kubeconfig=str(config))
    return RestKubeClient(await load_configuration(given), given), given


async def test_every_right_is_used_and_no_other_is_needed(tmp_path: Path) -> None:
    role = rights(CLUSTER_RULES)
    async with fake_api() as api:
        api.role = role
        client, given = await client_of(api, tmp_path)
        story = Story(api, client)
        await story.live()
        queue: KeyedQueue[Key] = KeyedQueue(asyncio.get_running_loop())
        tasks = [
            asyncio.create_task(resync(client, Mirror(), queue, (), asyncio.Event())),
            asyncio.create_task(watch(Streams(Mirror()), given, started=asyncio.Event())),
        ]
        await asyncio.wait_for(api.wait_for_watches(*WATCHED), 20)
        assert await queue.get() == KEY
        for task in tasks:
            task.cancel()
        await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        await client.close()
    assert story.forbidden == []
    assert api.refused == set()
    assert api.used == role


@pytest.mark.parametrize("rule", CLUSTER_RULES, ids=lambda rule: rule.resources[0].replace("/", "-"))
async def test_a_rule_taken_away_is_missed_and_named(rule: Rule, tmp_path: Path) -> None:
    taken = rights([rule])
    async with fake_api() as api:
        api.role = rights(CLUSTER_RULES) - taken
        given = settings(api, tmp_path)
        process = asyncio.create_task(main.run(given))
        await asyncio.wait_for(said_by(given.http_port, "readyz", "its role does not allow: "), 30)
        for _, resource, verb in taken:
            await asyncio.wait_for(said_by(given.http_port, "readyz", f"{verb} {resource}"), 5)
        process.cancel()
        with suppress(asyncio.CancelledError):
            await process

        # Taken away while it runs: the server refuses exactly that, and the operator says so and lives.
        client, _ = await client_of(api, tmp_path)
        story = Story(api, client)
        await story.live()
        await client.close()
        assert api.refused
        assert api.refused <= taken


LEASE = LeaseSettings("home", "one")


@dataclass
class Clock:
    """Time that moves while somebody sleeps. `naps` are left until it stops whoever sleeps."""

    naps: int = 6
    now_s: float = 0.0

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.naps -= 1
        if self.naps < 0:
            raise TimeoutError("the test has seen enough")
        self.now_s += seconds


async def lead(client: RestKubeClient) -> None:
    """Take the Lease, keep it for a while and give it back."""
    clock = Clock()
    lease = Lease(client, LEASE, monotonic=clock.monotonic, sleep=clock.sleep)
    with suppress(TimeoutError, LeaseLost):
        await lease.acquire()
        await lease.keep()
    await lease.release()


async def test_every_right_on_the_lease_is_used_and_no_other_is_needed(tmp_path: Path) -> None:
    async with fake_api() as api:
        api.role = rights(OWN_RULES)
        client, _ = await client_of(api, tmp_path)
        await lead(client)
        await client.close()
    assert api.refused == set()
    assert api.used == rights(OWN_RULES)


@pytest.mark.parametrize("right", sorted(rights(OWN_RULES)), ids="-".join)
async def test_a_right_on_the_lease_taken_away_is_missed_and_named(
    right: Right, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, resource, verb = right
    async with fake_api() as api:
        api.role = rights(CLUSTER_RULES) | rights(OWN_RULES) - {right}
        given = replace(settings(api, tmp_path), lease=LEASE)
        process = asyncio.create_task(main.run(given))
        words = f"its role does not allow: {verb} {resource}"
        await asyncio.wait_for(said_by(given.http_port, "readyz", words), 30)
        process.cancel()
        with suppress(asyncio.CancelledError):
            await process

        # Taken away while it runs.
        client, _ = await client_of(api, tmp_path)
        await lead(client)
        await client.close()
        assert api.refused == {right}
    assert f"cannot {verb} {resource}" in caplog.text


class OneGpu:
    """What NVML and the kubelet say of a node with one idle GPU."""

    def read(self) -> NvmlReading:
        return NvmlReading("580", (GpuReading(0, "GPU-a", "A100", Memory(80 << 30, 1 << 29, 0)),))

    def holders(self) -> Holders:
        return {}


async def agent_on(api: FakeApi, folder: Path) -> Agent:
    """A node agent that has looked once at its node."""
    api.put("/api/v1/nodes", {"metadata": {"name": "gpu-1"}})
    client, _ = await client_of(api, folder)
    agent = Agent(client, OneGpu(), OneGpu(), Identity("gpu-1", "agents", "agent-x", "uid-x"))
    await agent.step()
    await client.close()
    return agent


async def test_an_agent_uses_every_right_and_needs_no_other(tmp_path: Path) -> None:
    async with fake_api() as api:
        api.role = rights(AGENT_RULES)
        agent = await agent_on(api, tmp_path)
    assert agent.not_ready() is None
    assert api.refused == set()
    assert api.used == rights(AGENT_RULES)


@pytest.mark.parametrize("right", sorted(rights(AGENT_RULES)), ids="-".join)
async def test_a_right_taken_from_an_agent_is_missed_and_named(right: Right, tmp_path: Path) -> None:
    async with fake_api() as api:
        api.role = rights(AGENT_RULES) - {right}
        agent = await agent_on(api, tmp_path)
    _, resource, verb = right
    assert "could not be written" in (agent.not_ready() or "")
    assert f"cannot {verb} {resource}" in (agent.not_ready() or "")
    assert api.refused == {right}
