"""Refusals in words: what is missing, by how much, and who holds it."""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_operator.inventory.quota import POD_KEYS, QuotaLimit
from diffusion_operator.placement.decision import Refusal
from diffusion_operator.placement.groups import Candidate, Group, Survey
from diffusion_operator.placement.handout import Share
from diffusion_runtime.planning.documents import NoPlan
from diffusion_runtime.planning.explain import format_bytes

_SHOWN_HOLDERS = 3
NOTEWORTHY_BYTES = 2 * 1024**3
"""More than a driver keeps for itself; below it nobody else is on the GPU."""
_FIELDS = {
    "product": "spec.hardware.productIn",
    "memory": "spec.hardware.minMemory",
    "label": "spec.hardware.nodeSelector",
    "taint": "spec.hardware.tolerations",
    "volume": "spec.model",
}
# The node that lacks least speaks: right GPUs behind a taint are closer to a plan than other GPUs.
_RANK = ("volume", "unknown", "driver", "taint", "label", "memory", "product")


def count(number: int, noun: str) -> str:
    """`1 GPU`, `2 GPUs`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def no_hardware(found: Survey) -> Refusal:
    """No node can be used by this spec, whatever is free: there is none, or all are excluded."""
    if not found.left_out:
        message = f"no node offers {found.resource_name}; install the GPU device plugin or add a GPU node."
        return Refusal("NoGPUNodes", message, stalled=True)
    node, kind, text = min(found.left_out, key=lambda item: (_RANK.index(item[1]), item[0].name))
    total = count(len(found.left_out), "node")
    if kind == "unknown":
        message = (
            f"{total} with {found.resource_name}, but {node.name} {text}; run GPU feature discovery, or "
            f"label it with {found.resource_name}.product or {found.resource_name}.memory (MiB of one GPU)."
        )
        return Refusal("UnknownHardware", message, stalled=True)
    if kind == "driver":
        message = (
            f"{total} with {found.resource_name}, but {node.name} {text}; update the driver of the node."
        )
        return Refusal("DriverTooOld", message, stalled=True)
    product = node.labels.get(f"{found.resource_name}.product")
    named = f"{node.name} ({product})" if product and kind in ("taint", "label", "volume") else node.name
    why = f"{named} {_verb(kind)}{text}"
    message = f"{total} with {found.resource_name}, but the spec allows none of them: {why}."
    return Refusal("NoGPUNodes", message, stalled=True, field=_FIELDS[kind])


def no_plan(answers: Sequence[tuple[Group, NoPlan]]) -> Refusal:
    """Not even empty nodes can run this; the group that lacks least speaks."""
    group, answer = min(answers, key=lambda pair: (pair[1].shortfall_bytes or 0, pair[0].name))
    others = f" The other {count(len(answers) - 1, 'GPU product')} cannot either." if len(answers) > 1 else ""
    message = f"{group.name} ({group.product}): {_sentence(answer.message)}{others}"
    return Refusal(answer.reason, message, stalled=True)


def waiting(groups: Sequence[Group], gpus: int, missing: int, wanted: int) -> Refusal:
    """Enough hardware exists, but it is taken or down now."""
    message = f"{_missing(missing, wanted)}needs {count(gpus, 'GPU')} of one node; {_freest(groups)}."
    return Refusal("InsufficientGPUs", message, stalled=False)


def waiting_for(groups: Sequence[Group], answer: NoPlan) -> Refusal:
    """What is free now has no plan although empty nodes would have one; the planner says why."""
    return Refusal(answer.reason, f"{_sentence(answer.message)} Now {_freest(groups)}.", stalled=False)


def waiting_for_host_memory(groups: Sequence[Group], need: int, missing: int, wanted: int) -> Refusal:
    """GPUs are free, but the memory of their nodes is taken."""
    up = [c for group in groups for c in group.candidates if not c.down]
    best = min(up, key=lambda c: (-c.capacity.host_free_bytes, c.capacity.node.name))
    message = (
        f"{_missing(missing, wanted)}needs {format_bytes(need)} of host memory beside its GPUs; the freest "
        f"node {best.capacity.node.name} has {format_bytes(best.capacity.host_free_bytes)}."
    )
    return Refusal("InsufficientHostMemory", message, stalled=False)


def quota_exceeded(limit: QuotaLimit, gpus: int, missing: int, wanted: int, *, none_runs: bool) -> Refusal:
    """The namespace's quota leaves no room. Stalled when it could not hold one replica even if unused."""
    need = 1 if limit.key in POD_KEYS else gpus
    message = f"{_missing(missing, wanted)}needs {count(gpus, 'GPU')} and 1 pod each; {limit.words()}."
    return Refusal("QuotaExceeded", message, stalled=none_runs and limit.hard < need)


def waiting_for_nodes(coming: Sequence[Share], missing: int, wanted: int) -> Refusal:
    """Pods exist for which a pool is to bring nodes."""
    parts = [
        f"{count(share.future * share.gpus, 'GPU')} of pool {share.offer.group.pool} "
        f"({share.future} x {share.gpus} {share.offer.group.product})"
        for share in coming
    ]
    waits = sum(share.future for share in coming)
    rest = f"; {missing} more {'fits' if missing == 1 else 'fit'} nowhere" if missing else ""
    message = f"{_missing(waits, wanted)}waiting for new nodes: {', '.join(parts)}{rest}."
    return Refusal("WaitingForNodes", message, stalled=False)


def _missing(missing: int, wanted: int) -> str:
    """`2 of 3 replicas wait: `, nothing for a single replica."""
    verb = "waits" if missing == 1 else "wait"
    return f"{missing} of {count(wanted, 'replica')} {verb}: " if wanted > 1 else ""


def _freest(groups: Sequence[Group]) -> str:
    """The node with the most free GPUs, and who holds the others."""
    nodes = [candidate for group in groups for candidate in group.candidates if not candidate.future]
    if not nodes:
        return "no node is there"
    up = [candidate for candidate in nodes if not candidate.down]
    if not up:
        first = min(nodes, key=lambda c: c.capacity.node.name)
        return (
            f"none of {count(len(nodes), 'node')} can take pods: {first.capacity.node.name} is {first.down}"
        )
    best = min(up, key=lambda c: (-c.free, c.capacity.node.name))
    text = f"the freest node {best.capacity.node.name} has {best.free} of {best.capacity.total} free"
    return f"{text}{_holders(best)}{_outside(best)}{_down(nodes)}"


def _outside(candidate: Candidate) -> str:
    """Memory that is missing on the free GPUs although no pod holds them."""
    missing = candidate.device.total_bytes - candidate.free_bytes
    if not candidate.free or missing < NOTEWORTHY_BYTES:
        return ""
    return f", but at least one of them has only {format_bytes(candidate.free_bytes)} of memory free"


def _holders(candidate: Candidate) -> str:
    shown = [f"{name} holds {gpus}" for name, gpus in candidate.capacity.holders[:_SHOWN_HOLDERS]]
    more = len(candidate.capacity.holders) - _SHOWN_HOLDERS
    if more > 0:
        shown.append(
            f"{more} more hold {sum(gpus for _, gpus in candidate.capacity.holders[_SHOWN_HOLDERS:])}"
        )
    return f"; {', '.join(shown)}" if shown else ""


def _down(nodes: Sequence[Candidate]) -> str:
    down = sorted(f"{c.capacity.node.name} is {c.down}" for c in nodes if c.down)
    return f"; {', '.join(down[:_SHOWN_HOLDERS])}" if down else ""


def _verb(kind: str) -> str:
    return {"taint": "has the ", "label": "has the wrong labels: "}.get(kind, "")


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."
