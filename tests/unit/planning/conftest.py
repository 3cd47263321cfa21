"""Short ways to ask the planner something, shared by all planning tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from builders.model_folder import write_pipeline
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.devices import GpuNode, device_from_product
from diffusion_runtime.planning.documents import NoPlan, Plan, Workload
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.search import make_plan

QWEN = "Qwen/Qwen-Image"
WAN = "Wan-AI/Wan2.1-T2V-14B-Diffusers"


def node(*gpus: str, host_free_bytes: int | None = None, free_bytes: Sequence[int | None] = ()) -> GpuNode:
    """One node; `free_bytes` by position, absent means all free."""
    free = [*free_bytes, *[None] * (len(gpus) - len(free_bytes))]
    devices = tuple(device_from_product(name, free_bytes=f) for name, f in zip(gpus, free, strict=True))
    return GpuNode(name="node", gpus=devices, host_free_bytes=host_free_bytes)


@pytest.fixture
def answer() -> Callable[..., Plan | NoPlan]:
    """answer(model or facts, nodes, replicas=1, workload=..., **intent) -> Plan or NoPlan."""

    def ask(
        model: str | ModelFacts, nodes: GpuNode | list[GpuNode], replicas: int = 1, **wishes: Any
    ) -> Plan | NoPlan:
        facts = facts_for(model) if isinstance(model, str) else model
        workload = wishes.pop("workload", Workload())
        listed = nodes if isinstance(nodes, list) else [nodes]
        return make_plan(facts, workload, Intent(**wishes), listed, replicas)

    return ask


@pytest.fixture
def plan(answer: Callable[..., Plan | NoPlan]) -> Callable[..., Plan]:
    """Like `answer`, for questions that have a plan."""

    def ask(*args: Any, **wishes: Any) -> Plan:
        found = answer(*args, **wishes)
        assert isinstance(found, Plan), found
        return found

    return ask


@pytest.fixture
def gpus() -> Callable[..., GpuNode]:
    """gpus("H200", "H200", free_bytes=[None, 20 * GIB]) -> one node."""
    return node


@pytest.fixture
def qwen() -> str:
    """Id of the 20 B image model."""
    return QWEN


@pytest.fixture
def wan() -> str:
    """Id of the 14 B video model."""
    return WAN


def modes(plan: Plan) -> dict[str, str]:
    """Residency modes by component."""
    return {name: residency.mode for name, residency in plan.residency.items()}


@pytest.fixture
def modes_of() -> Callable[[Plan], dict[str, str]]:
    """modes_of(plan) -> residency modes by component."""
    return modes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny, valid pipeline folder (see write_pipeline)."""
    return write_pipeline(tmp_path / "tiny")
