"""`kubectl diffusion promises`: what every status promises, what holds it already, and what the cluster has.

It counts with the operator's own ledger. A promise is kept once its pods are bound to nodes; what is not
bound yet is reserved, and nobody else is promised it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diffusion_operator.cli.answers import json_text, keys_of
from diffusion_operator.cli.kubectl import JsonObject, Kubectl
from diffusion_operator.cli.snapshot import Snapshot, cluster_snapshot
from diffusion_operator.cli.style import Style, table
from diffusion_operator.inventory.objects import DEFAULT_RESOURCE, Pod, parse_pod
from diffusion_operator.inventory.totals import UNNAMED, GpuTotals, gpu_totals

HEADINGS = (
    "DEPLOYMENT", "GROUP", "PRODUCT", "REPLICAS", "GPUS EACH", "GPUS", "BOUND", "WAITING", "FOR NODES",
    "LEAVING", "PLAN",
)  # fmt: skip
NUMBERS = frozenset(range(3, 10))
TOTAL_HEADINGS = (
    "PRODUCT", "RESOURCE", "GPUS", "PROMISED", "BOUND", "RESERVED", "OTHER PODS", "FREE", "FOR NODES",
)  # fmt: skip
TOTAL_NUMBERS = frozenset(range(2, 9))


@dataclass(frozen=True)
class Promise:
    """One entry of `status.placements`. Counts are pods, but for the GPUs.

    `bound_pods` follow the promised plan on a node; `waiting_pods` do not yet, of which `waiting_for_nodes`
    wait for a pool. `leaving_pods` are bound pods that end or follow another plan.
    """

    namespace: str
    name: str
    group: str
    product: str
    resource: str
    plan_hash: str
    replicas: int
    gpus_per_replica: int
    bound_pods: int
    waiting_pods: int
    waiting_for_nodes: int
    leaving_pods: int

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.replicas * self.gpus_per_replica


@dataclass(frozen=True)
class Unpromised:
    """A deployment without a promise, and the reason that its Ready condition gives."""

    namespace: str
    name: str
    reason: str


@dataclass(frozen=True)
class ProductSum:
    """What is promised of one product, beside what the nodes have. `for_nodes`: for nodes that will come."""

    product: str
    resource: str
    allocatable: int
    promised: int
    bound: int
    reserved: int
    other_pods: int
    free: int
    for_nodes: int


def promises(kubectl: Kubectl, namespace: str | None, output: str, style: Style) -> str:
    """Text or JSON. `namespace` narrows the list, never the sums. Raises BadInput, ClusterUnreachable."""
    snapshot = cluster_snapshot(kubectl)
    totals = gpu_totals(snapshot.ledger())
    every, without = read_promises(snapshot)
    sums = product_sums(every, totals)
    shown = [one for one in every if namespace in (None, one.namespace)]
    left = [one for one in without if namespace in (None, one.namespace)]
    if output == "json":
        return _as_json(shown, left, sums)
    return words(shown, left, sums, style)


def read_promises(snapshot: Snapshot) -> tuple[list[Promise], list[Unpromised]]:
    """All promises, and the deployments without one; sorted."""
    pods: dict[tuple[str, str], list[Pod]] = {}
    for pod in map(parse_pod, snapshot.pods):
        if pod.owner is not None and pod.node is not None and not pod.terminal:
            pods.setdefault((pod.owner, pod.group or ""), []).append(pod)
    resources = {key: one.resource_name for key, one in snapshot.reserving().items()}
    promised, without = [], []
    for dd in snapshot.diffusion_deployments:
        namespace, name = dd["metadata"].get("namespace", "default"), dd["metadata"]["name"]
        placements = (dd.get("status") or {}).get("placements") or ()
        if not placements:
            without.append(Unpromised(namespace, name, _reason(dd)))
        for raw in placements:
            key = (f"{namespace}/{name}", str(raw.get("group", "")))
            bound = pods.get(key, [])
            promised.append(_promise(namespace, name, raw, resources.get(key, DEFAULT_RESOURCE), bound))
    promised.sort(key=lambda one: (one.namespace, one.name, one.group))
    without.sort(key=lambda one: (one.namespace, one.name))
    return promised, without


def product_sums(every: Iterable[Promise], totals: Iterable[GpuTotals]) -> list[ProductSum]:
    """A row for each product that nodes have or a status promises."""
    having = {(total.product, total.resource): total for total in totals}
    promised: dict[tuple[str, str], list[int]] = {key: [0, 0] for key in having}
    for one in every:
        counts = promised.setdefault((one.product, one.resource), [0, 0])
        later = one.waiting_for_nodes * one.gpus_per_replica
        counts[0] += one.gpus - later
        counts[1] += later
    rows = []
    for (product, resource), (now, later) in sorted(promised.items()):
        has = having.get((product, resource), GpuTotals(product, resource, 0, 0, 0))
        bound = has.promised - has.reserved
        rows.append(
            ProductSum(
                product, resource, has.allocatable, now, bound, has.reserved, has.others, has.free, later
            )
        )
    return rows


def words(
    shown: Sequence[Promise], without: Sequence[Unpromised], sums: Sequence[ProductSum], style: Style
) -> str:
    """A headline, the promises, who has none, and the sums; ends in a newline."""
    gpus = sum(one.gpus for one in shown)
    count = f"{len(shown)} promise{'' if len(shown) == 1 else 's'}"
    lines = [style.paint(count, "bold") + f"   {gpus} GPU{'' if gpus == 1 else 's'}"]
    if shown:
        heading, *body = table([HEADINGS, *map(_row, shown)], right=NUMBERS)
        lines += ["", style.heading(heading), *body]
    if without:
        rows = [(f"{one.namespace}/{one.name}", one.reason) for one in without]
        lines += ["", style.heading("Without a promise"), *table(rows)]
    if sums:
        heading, *body = table([TOTAL_HEADINGS, *map(_sum_row, sums)], right=TOTAL_NUMBERS)
        lines += ["", style.heading(heading), *body]
    return "\n".join(lines) + "\n"


def _promise(
    namespace: str, name: str, raw: Mapping[str, Any], resource: str, pods: Sequence[Pod]
) -> Promise:
    """`pods` are those of the group that have a node."""
    plan_hash, replicas = str(raw.get("planHash", "")), int(raw.get("replicas", 0))
    bound = sum(1 for pod in pods if pod.plan_hash == plan_hash and not pod.terminating)
    return Promise(
        namespace=namespace,
        name=name,
        group=str(raw.get("group", "")),
        product=str(raw.get("product") or UNNAMED),
        resource=resource,
        plan_hash=plan_hash,
        replicas=replicas,
        gpus_per_replica=int(raw.get("gpusPerReplica", 0)),
        bound_pods=bound,
        waiting_pods=max(0, replicas - bound),
        waiting_for_nodes=int(raw.get("waitingForNodes", 0)),
        leaving_pods=len(pods) - bound,
    )


def _reason(dd: JsonObject) -> str:
    conditions: Iterable[JsonObject] = (dd.get("status") or {}).get("conditions") or ()
    ready: JsonObject = next((one for one in conditions if one.get("type") == "Ready"), {})
    return str(ready.get("reason") or "not looked at yet")


def _row(one: Promise) -> tuple[str, ...]:
    counts = (
        one.replicas, one.gpus_per_replica, one.gpus, one.bound_pods, one.waiting_pods, one.waiting_for_nodes,
        one.leaving_pods,
    )  # fmt: skip
    return (f"{one.namespace}/{one.name}", one.group, one.product, *map(str, counts), one.plan_hash)


def _sum_row(one: ProductSum) -> tuple[str, ...]:
    counts = (
        one.allocatable, one.promised, one.bound, one.reserved, one.other_pods, one.free, one.for_nodes
    )  # fmt: skip
    return (one.product, one.resource, *map(str, counts))


def _as_json(shown: Iterable[Promise], without: Iterable[Unpromised], sums: Iterable[ProductSum]) -> str:
    return json_text(
        {
            "promises": [keys_of(one, gpus=one.gpus) for one in shown],
            "withoutPromise": [keys_of(one) for one in without],
            "products": [keys_of(one) for one in sums],
        }
    )
