"""How often an agent writes, what it writes and when its report may count; all with a simulated clock."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from diffusion_operator.api.gpu_node import GPUNodeStatus
from diffusion_operator.inventory.gpu_nodes import parse_gpu_node
from diffusion_operator.kube.errors import ApiError, Forbidden, NotFound
from diffusion_operator.kube.resources import GPU_NODES, NODES, Resource
from diffusion_operator.node_agent.agent import READY_GRACE_S, Agent
from diffusion_operator.node_agent.host_memory import HostMemory
from diffusion_operator.node_agent.nvml import GpuReading, Links, Memory, NvmlReading, NvmlUnavailable
from diffusion_operator.node_agent.pod_resources import Holders, KubeletSilent, PodName
from diffusion_operator.node_agent.report import Identity

GIB = 2**30
START = datetime(2026, 11, 25, 12, tzinfo=UTC)
LINKS = Links(5, 16, 16, ())


class Api:
    """The few calls an agent makes. `fail` is raised at the next writes."""

    def __init__(self) -> None:
        self.live: dict[str, Any] | None = None
        self.writes: list[dict[str, Any]] = []
        self.fail: ApiError | None = None

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> dict[str, Any]:
        if resource == NODES:
            return {"metadata": {"name": name, "uid": "uid-of-node"}}
        assert resource == GPU_NODES
        if self.live is None:
            raise NotFound("not there", status=404)
        return copy.deepcopy(self.live)

    async def apply(self, manifest: dict[str, Any]) -> dict[str, Any]:
        if self.fail is not None:
            raise self.fail
        self.writes.append(manifest)
        self.live = copy.deepcopy(manifest)
        return manifest


@dataclass
class World:
    """One node with GPUs of 80 GiB, an agent on it, and a clock that only the test moves."""

    api: Api = field(default_factory=Api)
    used_gib: float = 0.0
    held: Holders = field(default_factory=dict)
    host_free_gib: float = 200.0
    seconds: float = 0.0
    problem: Exception | None = None
    gpus: int = 1
    gpu_gib: int = 80
    uid: str = "uid-1"

    def __post_init__(self) -> None:
        self.agent = self.new_agent()

    def new_agent(self) -> Agent:
        return Agent(
            self.api,  # type: ignore[arg-type]
            self,
            self,
            Identity("gpu-1", "agents", "agent-x", self.uid),
            host=lambda: HostMemory(256 * GIB, int(self.host_free_gib * GIB)),
            now=lambda: START + timedelta(seconds=self.seconds),
            monotonic=lambda: 1000 + self.seconds,
        )

    def read(self) -> NvmlReading:
        if isinstance(self.problem, NvmlUnavailable):
            raise self.problem
        memory = Memory(self.gpu_gib * GIB, GIB // 2, int(self.used_gib * GIB))
        gpus = (GpuReading(i, f"GPU-{i}", "A100", memory, links=LINKS) for i in range(self.gpus))
        return NvmlReading("580", tuple(gpus))

    def holders(self) -> Holders:
        if isinstance(self.problem, KubeletSilent):
            raise self.problem
        return self.held

    async def run_for(self, seconds: float, change: Callable[[World], None] = lambda _: None) -> int:
        """Look every 5 s, after a change at each look; returns how many writes came."""
        before = len(self.api.writes)
        end = self.seconds + seconds
        while self.seconds < end:
            self.seconds += 5
            change(self)
            await self.agent.step()
        return len(self.api.writes) - before

    @property
    def status(self) -> dict[str, Any]:
        return self.api.writes[-1]["status"]  # type: ignore[no-any-return]


@pytest.fixture
async def world() -> World:
    """An agent that has written its first report, a minute ago."""
    made = World()
    assert await made.run_for(60) == 1
    return made


async def test_the_report_says_all_and_belongs_to_its_node(world: World) -> None:
    manifest = world.api.writes[0]
    assert manifest["metadata"] == {
        "name": "gpu-1",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "gpu-1", "uid": "uid-of-node"}],
    }
    assert manifest["status"] == {
        "observedTime": "2026-11-25T12:00:05Z",
        "reporter": {"namespace": "agents", "name": "agent-x", "uid": "uid-1"},
        "driverVersion": "580",
        "gpuCount": 1,
        "freeGPUs": 1,
        "foreign": "0B",
        "hostMemory": {"totalBytes": 256 * GIB, "freeBytes": 200 * GIB},
        "gpus": [
            {
                "index": 0,
                "uuid": "GPU-0",
                "product": "A100",
                "totalBytes": 80 * GIB,
                "reservedBytes": GIB // 2,
                "usedBytes": 0,
                "foreignBytes": 0,
                "pcie": {"generation": 5, "width": 16, "maxWidth": 16},
            }
        ],
    }
    GPUNodeStatus.model_validate(manifest["status"])
    assert parse_gpu_node(manifest).gpus[0].free_bytes == int(79.5 * GIB)


async def test_an_idle_node_is_written_once(world: World) -> None:
    assert await world.run_for(3600) == 0


@pytest.mark.parametrize(("move_gib", "writes"), [(0.4, 0), (1.5, 0), (1.7, 1), (40, 1)])
async def test_only_moves_of_more_than_2_percent_are_written(
    world: World, move_gib: float, writes: int
) -> None:
    world.used_gib = move_gib
    assert await world.run_for(300) == writes


@pytest.mark.parametrize(
    ("gpu_gib", "move_gib", "writes"),
    # 2 % are 0.32, 0.48 and 0.52 GiB: up to 25 GiB the half of a GiB decides.
    [(16, 0.33, 0), (16, 0.5, 0), (16, 0.51, 1), (24, 0.49, 0), (24, 0.51, 1), (26, 0.51, 0), (26, 0.53, 1)],
)
async def test_on_a_small_gpu_only_moves_of_more_than_half_a_gib_are_written(
    gpu_gib: int, move_gib: float, writes: int
) -> None:
    world = World(gpu_gib=gpu_gib)
    await world.run_for(60)
    world.used_gib = move_gib
    assert await world.run_for(300) == writes
    world.used_gib = 0.0
    assert await world.run_for(300) == writes


async def test_small_moves_add_up_against_what_was_written(world: World) -> None:
    def creep(w: World) -> None:
        w.used_gib = min(w.used_gib + 0.1, 3.0)

    assert await world.run_for(600, creep) == 1
    assert world.status["gpus"][0]["foreignBytes"] > 1.6 * GIB


async def test_at_most_one_write_in_30_seconds(world: World) -> None:
    def swing(w: World) -> None:
        w.used_gib = 40.0 - w.used_gib

    world.used_gib = 1.0
    assert await world.run_for(300, swing) <= 10
    stamps = [datetime.fromisoformat(w["status"]["observedTime"]) for w in world.api.writes]
    gaps = [later - sooner for sooner, later in pairwise(stamps)]
    assert min(gaps) >= timedelta(seconds=30)


async def test_a_pods_own_use_is_never_written(world: World) -> None:
    world.held = {"GPU-0": frozenset({PodName("team", "p")})}
    assert await world.run_for(60) == 1
    assert world.status["gpus"][0]["heldBy"] == [{"namespace": "team", "name": "p"}]
    assert world.status["freeGPUs"] == 0

    def busy(w: World) -> None:
        w.used_gib = (w.used_gib + 13) % 79

    assert await world.run_for(600, busy) == 0


async def test_free_host_memory_is_written_when_it_moves_by_5_percent(world: World) -> None:
    world.host_free_gib -= 12
    assert await world.run_for(60) == 0
    world.host_free_gib -= 12
    assert await world.run_for(60) == 1


async def test_a_vanished_gpu_is_written(world: World) -> None:
    world.gpus = 0
    assert await world.run_for(60) == 1
    assert world.status["gpuCount"] == 0


async def test_a_restarted_agent_keeps_the_interval_and_what_was_foreign(world: World) -> None:
    world.used_gib = 20
    assert await world.run_for(35) == 1
    world.held, world.used_gib = {"GPU-0": frozenset({PodName("team", "p")})}, 60
    await world.run_for(30)
    sooner = datetime.fromisoformat(world.status["observedTime"])
    assert world.status["gpus"][0]["foreignBytes"] == 20 * GIB
    world.uid = "uid-2"
    for _ in range(4):  # a crash loop must not write more often either
        world.agent = world.new_agent()
        await world.run_for(5)
    await world.run_for(35)
    later = datetime.fromisoformat(world.status["observedTime"])
    assert later - sooner >= timedelta(seconds=30)
    assert world.status["reporter"]["uid"] == "uid-2"
    assert world.status["gpus"][0]["foreignBytes"] == 20 * GIB


async def test_a_lost_report_is_written_again(world: World) -> None:
    world.api.live = None
    assert await world.run_for(700) == 1


async def test_it_is_ready_only_with_a_report_and_good_looks() -> None:
    world = World()
    assert world.agent.not_ready() == "it has not looked at the node yet"
    world.problem = KubeletSilent("the kubelet is away")
    await world.run_for(10)
    assert world.agent.not_ready() == "the kubelet is away"
    world.problem = None
    await world.run_for(5)
    assert world.agent.not_ready() is None
    world.problem = NvmlUnavailable("no driver")
    await world.run_for(READY_GRACE_S)
    assert world.agent.not_ready() is None
    await world.run_for(5)
    assert world.agent.not_ready() == "no driver"
    assert len(world.api.writes) == 1
    world.problem = None
    await world.run_for(5)
    assert world.agent.not_ready() is None


async def test_a_refused_write_takes_readiness_and_is_not_hammered(world: World) -> None:
    tries = 0

    async def refuse(manifest: dict[str, Any]) -> dict[str, Any]:
        nonlocal tries
        tries += 1
        raise Forbidden("the policy says no", status=403)

    world.api.apply = refuse  # type: ignore[method-assign]
    world.used_gib = 30
    await world.run_for(120)
    assert tries == 4
    assert "could not be written: the policy says no" in (world.agent.not_ready() or "")


async def test_a_missing_kind_is_said() -> None:
    world = World()
    world.api.fail = NotFound("no such path", status=404)
    await world.run_for(5)
    assert "the kind GPUNode is not in the cluster" in (world.agent.not_ready() or "")


async def test_a_look_that_never_ends_asks_for_a_restart(world: World) -> None:
    said: list[str | None] = []

    def hang() -> Holders:
        world.seconds += 121
        said.append(world.agent.stuck())
        return {}

    world.holders = hang  # type: ignore[method-assign]
    world.seconds += 1000
    assert world.agent.stuck() is None
    await world.agent.step()
    assert said[0] == "a look at the node has not ended for 121 s"
    assert world.agent.stuck() is None
