"""Node pools that a cluster autoscaler can grow: nodes that do not exist yet, as the administrator says.

Nothing here asks a cloud; a pool is a promise of the administrator that a pending pod with these labels and
tolerations brings a node with these GPUs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field, ValidationError

from diffusion_operator.api.base import ApiModel, DnsLabel, LabelKey, LabelValue
from diffusion_operator.api.hardware import ProductName, TolerationSpec
from diffusion_operator.inventory.objects import Node
from diffusion_operator.inventory.selection import Toleration
from diffusion_runtime.planning.devices import Device, device_from_product
from diffusion_runtime.planning.errors import UnknownHardware

MIB = 1024 * 1024


class BadPools(ValueError):
    """The declared pools cannot be read; the sentence names the pool, the field and the value."""


@dataclass(frozen=True, slots=True)
class NodePool:
    """One pool. `labels` are on its nodes and choose them; without any, the product label chooses them."""

    name: str
    product: str
    gpus_per_node: int
    max_nodes: int
    labels: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[Toleration, ...] = ()
    gpu_memory_bytes: int | None = None

    @property
    def device(self) -> Device:
        """What one of its GPUs is. Known: `parse_pools` refuses others."""
        return device_from_product(self.product, memory_bytes=self.gpu_memory_bytes)

    def selector(self, resource_name: str) -> dict[str, str]:
        """Labels that pin pods to this pool."""
        return dict(self.labels) or {f"{resource_name}.product": self.product}

    def holds(self, node: Node) -> bool:
        """Whether a node belongs to this pool by labels of its own."""
        return bool(self.labels) and all(node.labels.get(key) == value for key, value in self.labels)

    def future_node(self, number: int, resource_name: str) -> Node:
        """A node of this pool as it will be; its name is no name of a node."""
        product = {f"{resource_name}.product": self.product}
        return Node(
            name=f"new node {number} of pool {self.name}",
            labels={**product, **dict(self.labels)},
            extended={resource_name: self.gpus_per_node},
        )


class _PoolSpec(ApiModel):
    """One entry of the Helm value `nodePools`."""

    name: DnsLabel
    product: ProductName
    gpus_per_node: Annotated[int, Field(ge=1, le=64)]
    max_nodes: Annotated[int, Field(ge=1, le=10_000)]
    node_selector: Annotated[dict[LabelKey, LabelValue], Field(default_factory=dict, max_length=16)]
    tolerations: Annotated[tuple[TolerationSpec, ...], Field(max_length=16)] = ()
    gpu_memory_mi_b: Annotated[int | None, Field(ge=1, alias="gpuMemoryMiB")] = None


def parse_pools(text: str) -> tuple[NodePool, ...]:
    """Pools of a JSON list, in its order. Raises BadPools."""
    try:
        entries = json.loads(text or "[]")
    except ValueError as error:
        raise BadPools(f"node pools are no JSON: {error}") from error
    if not isinstance(entries, list):
        raise BadPools(f"node pools must be a list, not {type(entries).__name__}")
    pools = tuple(_pool(index, entry) for index, entry in enumerate(entries))
    names = [pool.name for pool in pools]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadPools(f"node pool {twice[0]} is declared {names.count(twice[0])} times; names must differ")
    return pools


def _pool(index: int, entry: Any) -> NodePool:
    try:
        spec = _PoolSpec.model_validate(entry)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        path = ".".join(str(step) for step in problem["loc"])
        raise BadPools(f"nodePools[{index}].{path}: {problem['msg']}") from error
    memory = spec.gpu_memory_mi_b
    pool = NodePool(
        name=spec.name,
        product=spec.product,
        gpus_per_node=spec.gpus_per_node,
        max_nodes=spec.max_nodes,
        labels=tuple(sorted(spec.node_selector.items())),
        tolerations=tuple(
            Toleration(t.key or "", t.operator or "Equal", t.value or "", t.effect or "")
            for t in spec.tolerations
        ),
        gpu_memory_bytes=memory * MIB if memory else None,
    )
    try:
        pool.device  # noqa: B018  # an unknown product without its memory is refused at the start, not later
    except UnknownHardware as error:
        raise BadPools(f"nodePools[{index}].product: {error} Set gpuMemoryMiB.") from error
    return pool
