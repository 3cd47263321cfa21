"""What today's planner says of a measured cell: its formulas may have been refitted since it was measured."""

from __future__ import annotations

from math import prod
from typing import Any

from diffusion_runtime.commands.sweep import PLANNED, sizes_from_flag, sweep
from diffusion_runtime.models.catalog import facts_for
from diffusion_runtime.planning.devices import GpuNode, device_from_product
from diffusion_runtime.planning.documents import Plan, Workload
from diffusion_runtime.planning.explain import layout_summary, residency_summary
from diffusion_runtime.planning.intent import Intent


def present_plan(entry: dict[str, Any]) -> Plan | None:
    """The plan for the same wish; None where it would now place weights or split work differently."""
    facts = facts_for(entry["model"])
    (shape,) = sizes_from_flag(entry["size"], facts.default_shape)
    shape = shape.model_copy(update={"steps": entry["steps"]})
    mode, _, layout = entry["chosenBy"][0].partition(" ")
    degrees = [int(word.partition("=")[2]) for word in layout.split("+") if "=" in word]
    node = GpuNode(name="measured", gpus=(device_from_product(entry["gpuProduct"]),) * prod(degrees))
    found = sweep(
        facts,
        Workload(shapes=(shape,)),
        Intent(),
        node,
        modes=[mode],
        layouts=[layout or PLANNED],
        shapes=[shape],
    )
    for candidate in found.candidates:
        plan = candidate.plan
        words = (layout_summary(plan.layout, plan.gpus_per_replica), residency_summary(plan.residency))
        if words == (entry["layout"], entry["residency"]):
            return plan
    return None
