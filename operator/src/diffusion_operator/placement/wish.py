"""Translates a spec into the planner's words.

facts, workload, intent, node selection, and the hash of the wish.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from diffusion_operator.api.deployment import DiffusionDeployment
from diffusion_operator.api.hardware import HardwareSpec
from diffusion_operator.api.performance import ParallelismSpec, PerformanceSpec
from diffusion_operator.api.quantities import parse_memory_reserve
from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.inventory.objects import DEFAULT_RESOURCE
from diffusion_operator.inventory.quota import PodTraits
from diffusion_operator.inventory.selection import NodeSelection, Toleration, parse_selection
from diffusion_runtime.planning.documents import Shape, Workload
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent

_INTENT_FIELDS = ("model", "task", "workload", "performance", "parallelism", "residency", "dtype", "hardware")


def workload_of(spec: DiffusionDeploymentSpec, facts: ModelFacts) -> Workload:
    """Workload with the family's defaults for the steps and frames that a shape leaves out."""
    wish = spec.workload
    if wish is None:
        return Workload()
    default = facts.default_shape
    shapes = tuple(
        Shape(
            width=shape.width,
            height=shape.height,
            frames=shape.frames or default.frames,
            steps=shape.steps or default.steps,
        )
        for shape in wish.shapes or ()
    )
    return Workload(
        shapes=shapes,
        guidance=wish.guidance or "auto",
        concurrency=wish.concurrency or 1,
        other_shapes=wish.other_shapes or "uncompiled",
    )


def intent_of(spec: DiffusionDeploymentSpec) -> Intent:
    """Intent of the planner; absent stays absent."""
    performance = spec.performance or PerformanceSpec()
    parallelism = spec.parallelism or ParallelismSpec()
    reserve = performance.memory_reserve
    fraction, amount = parse_memory_reserve(reserve) if reserve is not None else (None, None)
    return Intent(
        mode=performance.mode or "auto",
        bias=performance.bias,
        objective=performance.objective or "balanced",
        memory_reserve_fraction=fraction,
        memory_reserve_bytes=amount,
        device=performance.device or "cuda",
        gpus_per_replica=parallelism.gpus_per_replica,
        max_gpus_per_replica=parallelism.max_gpus_per_replica,
        cfg=parallelism.cfg,
        ulysses=parallelism.ulysses,
        ring=parallelism.ring,
        tensor=parallelism.tensor,
        fsdp=parallelism.fsdp,
        text_encoder_tensor=parallelism.text_encoder_tensor,
        residency=dict(spec.residency or {}),
        dtype=dict(spec.dtype or {}),
        allow_downgrade=performance.allow_downgrade is not False,
    )


def resource_of(spec: DiffusionDeploymentSpec) -> str:
    """Extended resource that stands for one GPU."""
    return (spec.hardware.resource_name if spec.hardware else None) or DEFAULT_RESOURCE


def selection_of(spec: DiffusionDeploymentSpec) -> NodeSelection:
    """Nodes that the spec allows. A taint named like the GPU resource is tolerated."""
    hardware = (spec.hardware or HardwareSpec()).to_dict()
    affinity = spec.pod.affinity if spec.pod else None
    raw: dict[str, Any] = {
        "nodeSelector": hardware.get("nodeSelector", {}),
        "tolerations": hardware.get("tolerations", []),
        "affinity": affinity.to_dict() if affinity else {},
    }
    chosen = parse_selection(raw)
    own = Toleration(key=resource_of(spec), operator="Exists")
    return NodeSelection(chosen.node_selector, chosen.terms, (own, *chosen.tolerations))


def pod_traits(spec: DiffusionDeploymentSpec) -> PodTraits:
    """What scoped quotas look at. A pod without requests for CPU and memory is of the class BestEffort."""
    pod = spec.pod
    resources = pod.resources.to_dict() if pod and pod.resources else {}
    named = {name for amounts in resources.values() for name in amounts}
    return PodTraits(pod.priority_class_name if pod else None, not named & {"cpu", "memory"})


def intent_hash(dd: DiffusionDeployment, engine_version: str, commit: str | None = None) -> str:
    """Hash of everything that may change the plan: twelve hex digits.

    Replicas, service, pod additions and suspend are no part of it: they never need a new plan. The engine
    version is, because a new engine image replaces all pods anyway, and so is the commit of the model.
    """
    spec = dd.spec.to_dict()
    wish: dict[str, Any] = {name: spec[name] for name in _INTENT_FIELDS if name in spec}
    wish["engineVersion"] = engine_version
    if commit:
        wish["commit"] = commit
    return hashlib.sha256(json.dumps(wish, sort_keys=True).encode()).hexdigest()[:12]
