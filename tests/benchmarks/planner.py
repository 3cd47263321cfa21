"""`python -m benchmarks.planner` (with tests/ on the path): what planning costs on one core.

Two figures: CPU seconds of one plan in every mode, and of deciding 1,000 deployments against 1,000 nodes.
CPU time of this process is counted, so that other work on the machine does not decide. It exits with 1 when
a limit is broken.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from time import process_time
from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.ledger import Ledger
from diffusion_operator.inventory.ledger_build import build_ledger
from diffusion_operator.inventory.objects import (
    ManagedDeployment,
    Pod,
    parse_deployment,
    parse_node,
    parse_pod,
)
from diffusion_operator.placement.decide import decide
from diffusion_operator.placement.decision import Decision
from diffusion_operator.render.children import render_children
from diffusion_operator.render.settings import RenderSettings
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.devices import GpuNode, device_from_product
from diffusion_runtime.planning.documents import Workload
from diffusion_runtime.planning.errors import BadRequest
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.search import make_plan
from diffusion_runtime.planning.settled import forget
from wrappers import DiffusionDeploymentBuilder, NodeBuilder, PodBuilder

PLAN_LIMIT_SECONDS = 0.005
FLEET_LIMIT_SECONDS = 10.0
REPEATS = 20
MODELS = ("Qwen/Qwen-Image", "Wan-AI/Wan2.1-T2V-14B-Diffusers")
PLAN_MODELS = (*MODELS, "Wan-AI/Wan2.2-T2V-A14B-Diffusers", "Lightricks/LTX-2")
PRODUCTS = ("H200", "L40S")
WISHES: dict[str, dict[str, Any]] = {
    "manual": {"mode": "manual"},
    "auto": {"mode": "auto"},
    "speed": {"mode": "speed"},
    "memory": {"mode": "memory"},
    "bias 0.3": {"bias": 0.3},
    "auto, 8 GPUs set": {"mode": "auto", "gpus_per_replica": 8},
    "speed, 8 GPUs set": {"mode": "speed", "gpus_per_replica": 8},
    "memory, 8 GPUs set": {"mode": "memory", "gpus_per_replica": 8},
    "bias 0.3, 8 GPUs set": {"bias": 0.3, "gpus_per_replica": 8},
}
FLEET_PRODUCTS = ("NVIDIA-H200", "NVIDIA-L40S", "NVIDIA-A100-SXM4-80GB", "NVIDIA-L4")
SETTINGS = RenderSettings(engine_image="engine:1")


def plan_seconds() -> Iterator[tuple[str, float]]:
    """(what, least CPU seconds of `REPEATS` plans) on a node with eight free GPUs."""
    for model in PLAN_MODELS:
        facts = facts_for(model)
        for product in PRODUCTS:
            node = GpuNode(name="node", gpus=(device_from_product(product),) * 8)
            for name, wish in WISHES.items():
                ask = partial(make_plan, facts, Workload(), Intent(**wish), [node])
                with contextlib.suppress(BadRequest):  # not every model can be split over eight GPUs
                    yield f"{name}, {model} on {product}", _least(ask)


def _least(action: Callable[[], object]) -> float:
    found = []
    for _ in range(REPEATS):
        forget()  # nothing may be left from the plan before
        start = process_time()
        action()
        found.append(process_time() - start)
    return min(found)


class Fleet:
    """A cluster of four products, half of its nodes used by other pods, and deployments of many kinds."""

    def __init__(self, nodes: int, deployments: int) -> None:
        self.nodes = [
            parse_node(NodeBuilder(f"node-{i:04}").gpus(8, FLEET_PRODUCTS[i % 4]).memory("1Ti").build())
            for i in range(nodes)
        ]
        self.pods = [
            parse_pod(PodBuilder(f"other-{i:04}").gpus(1 + i % 8).on(f"node-{i:04}").build())
            for i in range(0, nodes, 2)
        ]
        self.wanted = [DiffusionDeployment.parse(self._wish(i).build()) for i in range(deployments)]
        self.applied: list[ManagedDeployment] = []
        self.own_pods: list[Pod] = []

    def _wish(self, index: int) -> DiffusionDeploymentBuilder:
        wish = DiffusionDeploymentBuilder(f"dd-{index:04}").replicas(1 + index % 3)
        if index % 2:
            # A model that is not in the image is planned in full, but holds no GPU.
            wish = wish.hugging_face(MODELS[index % 4 // 2]).set("suspend", True)
        mode = ("auto", "speed", "memory", "manual", None)[index % 5]
        return wish.set("performance.bias", 0.3) if mode is None else wish.set("performance.mode", mode)

    def ledger(self) -> Ledger:
        """From all objects, as after a gap in the watch."""
        return build_ledger(self.nodes, [*self.pods, *self.own_pods], self.applied)

    def apply(self, dd: DiffusionDeployment, decision: Decision) -> None:
        """Deployments as the API server then holds them, without pods: every replica is a reservation."""
        for manifest in render_children(dd, decision, SETTINGS):
            if manifest["kind"] == "Deployment":
                self.applied.append(parse_deployment(manifest))


def fleet_seconds(nodes: int, deployments: int) -> dict[str, float]:
    """CPU seconds of the ledger and of all decisions, first on an empty ledger, then among all promises."""
    fleet, seconds = Fleet(nodes, deployments), {}
    start = process_time()
    ledger = fleet.ledger()
    seconds["ledger of nodes and pods"] = process_time() - start
    start = process_time()
    first = [decide(dd, ledger) for dd in fleet.wanted]
    seconds["all decisions"] = process_time() - start
    for dd, decision in zip(fleet.wanted, first, strict=True):
        fleet.apply(dd, decision)
    start = process_time()
    ledger = fleet.ledger()
    seconds["ledger with all promises"] = process_time() - start
    start = process_time()
    again = [decide(dd, ledger) for dd in fleet.wanted]
    seconds["all decisions among the promises"] = process_time() - start
    planned = sum(bool(decision.groups) for decision in again)
    print(f"{planned} of {deployments} deployments have a plan on {nodes} nodes")
    return seconds


def main(arguments: list[str]) -> int:
    """Print both figures; 1 when a limit is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--deployments", type=int, default=1000)
    flags = parser.parse_args(arguments)
    plans = sorted(plan_seconds(), key=lambda row: -row[1])
    for name, taken in plans:
        print(f"{1000 * taken:7.2f} ms  one plan: {name}")
    fleet = fleet_seconds(flags.nodes, flags.deployments)
    for name, taken in fleet.items():
        print(f"{taken:7.2f} s   {name}")
    worst, total = plans[0][1], fleet["ledger with all promises"] + fleet["all decisions among the promises"]
    print(
        f"slowest plan {1000 * worst:.2f} ms (limit {1000 * PLAN_LIMIT_SECONDS:.0f} ms); "
        f"{flags.deployments} deployments x {flags.nodes} nodes {total:.2f} s "
        f"(limit {FLEET_LIMIT_SECONDS:.0f} s)"
    )
    return int(worst >= PLAN_LIMIT_SECONDS or total >= FLEET_LIMIT_SECONDS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
