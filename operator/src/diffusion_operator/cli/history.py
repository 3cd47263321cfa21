"""`kubectl diffusion history NAME`: which plans one DiffusionDeployment had, and why each of them ended."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from diffusion_operator.cli.answers import json_text, keys_of
from diffusion_operator.cli.kubectl import Kubectl
from diffusion_operator.cli.past_plans import PastPlan, State, Traces, past_plans
from diffusion_operator.cli.style import WIDTH, Style, table

HEADINGS = ("MADE (UTC)", "UNTIL", "GROUP", "PLAN", "LAYOUT", "PEAK", "READY", "STATE")
STATES: dict[State, str] = {
    "serves": "serves now",
    "starts": "starts",
    "planned": "planned, no pods",
    "leaves": "leaves",
    "failed": "failed",
    "outOfMemory": "out of memory",
    "replaced": "replaced",
    "unused": "not used",
}
UNKNOWN = "-"


def history(kubectl: Kubectl, name: str, namespace: str | None, output: str, style: Style) -> str:
    """Text or JSON. Raises NoSuchDeployment, ClusterUnreachable."""
    dd = kubectl.deployment(name, namespace)
    where = dd["metadata"].get("namespace", "default")
    traces = Traces(
        dd,
        kubectl.plan_config_maps(name, where),
        kubectl.replica_sets_of(name, where),
        kubectl.pods_of(name, where),
    )
    found = past_plans(traces)
    if output == "json":
        plans = [keys_of(plan) for plan in found]
        return json_text({"namespace": where, "name": name, "plans": plans})
    return words(name, where, found, style)


def words(name: str, namespace: str, found: Sequence[PastPlan], style: Style) -> str:
    """A headline and a row for each plan, newest first; ends in a newline."""
    count = f"{len(found)} plan{'' if len(found) == 1 else 's'} known" + (
        ", newest first" if len(found) > 1 else ""
    )
    lines = [f"{style.paint(name, 'bold')}{style.paint(f'  namespace {namespace}', 'dim')}   {count}"]
    if not found:
        return lines[0] + "\n"
    heading, *body = table([HEADINGS, *map(_row, found)], right=frozenset({5}))
    lines += ["", style.heading(heading)]
    for plan, line in zip(found, body, strict=True):
        lines.append(line)
        lines += textwrap.wrap(plan.why, WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines) + "\n"


def _row(plan: PastPlan) -> tuple[str, ...]:
    return (
        _time(plan.made_at),
        _time(plan.until),
        plan.group or UNKNOWN,
        plan.plan_hash,
        plan.layout or UNKNOWN,
        plan.peak or UNKNOWN,
        f"{plan.ready_pods}/{plan.pods}" if plan.pods else UNKNOWN,
        STATES[plan.state],
    )


def _time(text: str) -> str:
    """2026-11-24T10:02:03Z as people read it."""
    return text.removesuffix("Z").replace("T", " ") or UNKNOWN
