"""`python -m benchmarks.operator` (with tests/ on the path): a batch of decisions, and the mirror's weight.

No server: objects are put into the mirror as watches would. CPU time of this process is counted, so that
other work on the machine does not decide. It exits with 1 when a limit is broken.
"""

from __future__ import annotations

import argparse
import gc
import re
import sys
from pathlib import Path
from time import process_time
from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.inventory.objects import parse_deployment
from diffusion_operator.kube.resources import (
    DEPLOYMENTS,
    DIFFUSION_DEPLOYMENTS,
    NODES,
    PODS,
    REPLICA_SETS,
    resource_of,
)
from diffusion_operator.placement.decide import decide
from diffusion_operator.reconcile.capacity import Capacity
from diffusion_operator.reconcile.mirror import Mirror
from diffusion_operator.render.children import render_children
from diffusion_operator.render.settings import RenderSettings
from wrappers import DiffusionDeploymentBuilder, NodeBuilder

DECISION_LIMIT_S = 0.010
MIRROR_LIMIT_MIB = 150.0
SETTINGS = RenderSettings(engine_image="engine:1")
PODS_EACH = 5


class World:
    """A mirror fed with raw objects of increasing versions, as they would come from a server."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.version = 0

    def put(self, resource: Any, raw: dict[str, Any]) -> None:
        self.version += 1
        raw["metadata"] = {
            **raw["metadata"],
            "resourceVersion": str(self.version),
            "uid": f"uid-{self.version}",
            "managedFields": [{"manager": "x", "fieldsV1": {"f:spec": {}}}],
        }
        self.mirror.put(resource, raw)


def pod_of(deployment: dict[str, Any], number: int, node: str) -> dict[str, Any]:
    template = deployment["spec"]["template"]
    metadata = {
        **template["metadata"],
        "name": f"{deployment['metadata']['name']}-{number}",
        "namespace": "team",
    }
    conditions = [{"type": kind, "status": "True"} for kind in ("Ready", "PodScheduled", "Initialized")]
    container = {"name": "engine", "ready": True, "state": {"running": {"startedAt": "2026-11-25T00:00:00Z"}}}
    status = {"phase": "Running", "podIP": f"10.{number}.0.1", "conditions": conditions}
    spec = {**template["spec"], "nodeName": node}
    return {"metadata": metadata, "spec": spec, "status": {**status, "containerStatuses": [container]}}


def decide_all(world: World, wanted: list[DiffusionDeployment]) -> tuple[float, list[list[dict[str, Any]]]]:
    """CPU seconds from ledger to promise for all, one after the other, and the manifests."""
    capacity, manifests = Capacity(world.mirror), []
    start = process_time()
    for dd in wanted:
        decision = decide(dd, capacity.ledger())
        rendered = render_children(dd, decision, SETTINGS)
        deployments = [parse_deployment(one) for one in rendered if one["kind"] == "Deployment"]
        capacity.promise((dd.namespace, dd.name), deployments)
        manifests.append(rendered)
    return process_time() - start, manifests


def resident_mib() -> float:
    gc.collect()
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def main(arguments: list[str]) -> int:
    """Print the figures; 1 when a limit is broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--deployments", type=int, default=1000)
    flags = parser.parse_args(arguments)
    world, before_mib = World(), resident_mib()
    for number in range(flags.nodes):
        world.put(NODES, NodeBuilder(f"node-{number:04}").gpus(8, "NVIDIA-H200").memory("1Ti").build())
    raws = [DiffusionDeploymentBuilder(f"dd-{number:04}").build() for number in range(flags.deployments)]
    for raw in raws:
        world.put(DIFFUSION_DEPLOYMENTS, raw)
    seconds, manifests = decide_all(world, [DiffusionDeployment.parse(raw) for raw in raws])
    for index, rendered in enumerate(manifests):
        for manifest in rendered:
            world.put(resource_of(manifest), manifest)
            if manifest["kind"] == DEPLOYMENTS.kind:
                template = {"spec": {"template": manifest["spec"]["template"]}}
                world.put(REPLICA_SETS, {"metadata": manifest["metadata"], **template})
                for number in range(PODS_EACH):
                    world.put(PODS, pod_of(manifest, number, f"node-{index % flags.nodes:04}"))
    del manifests, raws
    grown_mib = resident_mib() - before_mib
    each_s = seconds / flags.deployments
    print(f"{1000 * each_s:.2f} ms CPU from ledger to promise, of {flags.deployments} in a batch")
    print(
        f"{grown_mib:.0f} MiB more resident with {flags.nodes} nodes and {PODS_EACH} pods for each deployment"
    )
    return int(each_s > DECISION_LIMIT_S or grown_mib > MIRROR_LIMIT_MIB)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
