"""What the operator of a cluster was installed with: its node pools, oldest driver and engine image.

Read from the environment of its Deployment, which the chart writes. Nothing is guessed: what cannot be read
is named, and the plan says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_operator.inventory.hardware import parse_driver
from diffusion_operator.inventory.pools import BadPools, parse_pools
from diffusion_operator.placement.decide import NO_TERMS
from diffusion_operator.placement.groups import Terms

OPERATOR_CONTAINER = "operator"
ENGINE_IMAGE, NODE_POOLS, LEAST_DRIVER = (
    "DIFFUSION_ENGINE_IMAGE", "DIFFUSION_NODE_POOLS", "DIFFUSION_MINIMUM_DRIVER",
)  # fmt: skip


@dataclass(frozen=True)
class Installation:
    """`note` is a sentence for the reader when there is no installation, or one that cannot be read."""

    terms: Terms = NO_TERMS
    engine_image: str = ""
    note: str = ""


def installation(deployments: Iterable[Mapping[str, Any]]) -> Installation:
    """The first operator by namespace and name."""
    ordered = sorted(
        deployments, key=lambda raw: (raw["metadata"].get("namespace", ""), raw["metadata"]["name"])
    )
    found = next((env for raw in ordered if (env := _environment(raw)) is not None), None)
    if found is None:
        return Installation(
            note="No operator was found: node pools and the oldest driver are not considered."
        )
    try:
        terms = Terms(parse_pools(found.get(NODE_POOLS, "")), _driver(found.get(LEAST_DRIVER, "")))
    except (BadPools, ValueError) as error:
        return Installation(engine_image=found[ENGINE_IMAGE], note=f"The operator's settings: {error}.")
    return Installation(terms, found[ENGINE_IMAGE])


def _environment(deployment: Mapping[str, Any]) -> dict[str, str] | None:
    """Plain variables of the operator's container; None for a Deployment that is no operator."""
    containers = deployment.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ()
    for container in containers:
        variables = {entry["name"]: str(entry.get("value", "")) for entry in container.get("env") or ()}
        if container.get("name") == OPERATOR_CONTAINER and ENGINE_IMAGE in variables:
            return variables
    return None


def _driver(text: str) -> tuple[int, ...]:
    return parse_driver(text) if text else ()
