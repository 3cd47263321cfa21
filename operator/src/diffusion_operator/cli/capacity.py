"""`kubectl diffusion capacity`: every node with GPUs, what of it is free, and who has the rest.

It counts with the operator's own ledger, so its numbers are those that the operator plans with.
"""

from __future__ import annotations

from collections.abc import Sequence

from diffusion_operator.cli.errors import BadInput
from diffusion_operator.cli.kubectl import Kubectl
from diffusion_operator.cli.snapshot import Snapshot, cluster_snapshot
from diffusion_operator.cli.style import Style, table
from diffusion_operator.inventory.claims import NodeCapacity
from diffusion_operator.inventory.hardware import gpu_labels
from diffusion_operator.inventory.ledger import ANY, Ledger
from diffusion_operator.inventory.matching import unfit
from diffusion_operator.inventory.totals import Holder, holders
from diffusion_runtime.planning.units import format_bytes

UNKNOWN = "-"
HEADINGS = (
    "NODE", "PRODUCT", "GPUS", "FREE", "BOUND", "RESERVED", "OTHER PODS", "FOREIGN", "FREE ON EACH",
    "HOST FREE", "AGENT",
)  # fmt: skip
NUMBERS = frozenset(range(2, 10))


def capacity(kubectl: Kubectl, resource: str, style: Style) -> str:
    """The text for one GPU resource. Raises BadInput when no node offers it, ClusterUnreachable."""
    snapshot = cluster_snapshot(kubectl)
    ledger = snapshot.ledger()
    views = ledger.capacity(None, resource)
    if not views:
        offered = sorted({name for node in ledger.nodes for name, count in node.extended.items() if count})
        known = f" Nodes offer: {', '.join(offered)}." if offered else " No node offers any device."
        raise BadInput(f"No node offers {resource}.{known}")
    return words(views, ledger, snapshot, resource, style)


def words(
    views: Sequence[NodeCapacity], ledger: Ledger, snapshot: Snapshot, resource: str, style: Style
) -> str:
    """A headline, a row for each node, and who holds its GPUs; ends in a newline."""
    total, free = sum(view.total for view in views), sum(view.free for view in views)
    count = f"{len(views)} node{'s' if len(views) > 1 else ''}"
    lines = [style.paint(resource, "bold") + f"   {free} of {total} GPUs free on {count}", ""]
    reporting = snapshot.reporting_nodes()
    rows = [HEADINGS, *(_row(view, ledger, reporting, resource) for view in views)]
    heading, *body = table(rows, right=NUMBERS)
    lines.append(style.heading(heading))
    for view, line in zip(views, body, strict=True):
        lines += [line, *(f"      {note}" for note in _notes(view, ledger, resource))]
    return "\n".join(lines) + "\n"


def _row(view: NodeCapacity, ledger: Ledger, reporting: frozenset[str], resource: str) -> tuple[str, ...]:
    name, labels = view.node.name, gpu_labels(view.node, resource)
    report = ledger.reports.get(name)
    measured = view.room.open_bytes if view.room else None
    each = measured if measured is not None else labels.memory_bytes
    agent = "reports" if report else "not ready" if name in reporting else "none"
    here = holders(ledger, name, resource)
    return (
        name,
        labels.product or UNKNOWN,
        str(view.total),
        str(view.free),
        str(sum(holder.bound for holder in here)),
        str(sum(holder.reserved for holder in here)),
        str(sum(holder.other for holder in here)),
        format_bytes(sum(gpu.foreign_bytes for gpu in report.gpus)) if report else UNKNOWN,
        format_bytes(each) if view.free and each is not None else UNKNOWN,
        format_bytes(view.host_free_bytes),
        agent,
    )


def _notes(view: NodeCapacity, ledger: Ledger, resource: str) -> list[str]:
    """What a number cannot say: who holds GPUs, and why a node takes no pods."""
    notes = []
    here = holders(ledger, view.node.name, resource)
    if here:
        notes.append("; ".join(_words_of(holder) for holder in here))
    problem = unfit(view.node, ANY)
    if problem:
        notes.append(problem.text)
    report = ledger.reports.get(view.node.name)
    if report and report.unreadable:
        notes.append(
            f"{report.unreadable} of its GPUs cannot be read; kubectl get gpunode {view.node.name} -o yaml"
        )
    return notes


def _words_of(holder: Holder) -> str:
    """Such as "default/q: 2 bound, 4 reserved"."""
    kinds = ((holder.bound, "bound"), (holder.reserved, "reserved"), (holder.other, "held by this other pod"))
    return f"{holder.name}: {', '.join(f'{gpus} {kind}' for gpus, kind in kinds if gpus)}"
