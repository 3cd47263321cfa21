"""A view as text that a person likes to read. No decision is made here and nothing is read from a cluster."""

from __future__ import annotations

import textwrap

from diffusion_operator.cli.style import WIDTH, Style, bar, bullet, table
from diffusion_operator.cli.view import PlanView, Verdict, View
from diffusion_runtime.planning.explain import format_bytes

_VERDICTS: dict[Verdict, tuple[str, str]] = {
    "ready": ("● Ready", "green"),
    "degraded": ("● Ready, degraded", "yellow"),
    "suspended": ("○ Suspended", "yellow"),
    "stalled": ("✗ Stalled", "red"),
    "working": ("◌ Not ready yet", "yellow"),
    "unseen": ("◌ Not looked at yet", "yellow"),
    "planned": ("● Would run", "green"),
    "waiting": ("◌ Would wait", "yellow"),
    "refused": ("✗ Would be refused", "red"),
}
_PLACEMENTS = {
    "resident": "stays on the GPU",
    "component": "moved to the GPU when used",
    "layerwise": "streamed block by block",
    "sharded": "sharded over the GPUs of a replica",
}
_SOURCES = {
    "formula": "predicted by formula",
    "calibrated": "predicted from a calibration",
    "measured": "measured",
}


def words(view: View, style: Style) -> str:
    """The whole text, ending in a newline."""
    lines = [*_headline(view, style), *_story(view)]
    if view.plan is not None:
        lines += _plan(view.plan, style)
    if len(view.placements) > 1:
        lines += _placements(view, style)
    lines += _conditions(view, style)
    return "\n".join(lines) + "\n"


def _headline(view: View, style: Style) -> list[str]:
    name, where = view.name, f"  namespace {view.namespace}"
    verdict, colour = _VERDICTS[view.verdict]
    gap = " " * max(2, WIDTH - len(name) - len(where) - len(verdict))
    return [
        style.paint(name, "bold") + style.paint(where, "dim") + gap + style.paint(verdict, "bold", colour),
        "",
    ]


def _story(view: View) -> list[str]:
    lines: list[str] = []
    if view.plan is not None:
        lines.append(f"  {_sentence(view, view.plan)}")
    if view.message and not any(view.message in line for line in lines):
        lines += _wrapped(view.message)
    if view.verdict == "unseen":
        lines += _wrapped("The operator has written no status yet. Is it running?")
        lines.append("  kubectl get pods -A -l app.kubernetes.io/part-of=diffusion-operator")
    elif view.observed_generation is not None and view.observed_generation < view.generation:
        lines += _wrapped(
            f"The last change is not looked at yet: generation {view.generation} is wanted, "
            f"{view.observed_generation} was seen."
        )
    if view.url and view.ready:
        lines.append(f"  {view.url}")
    return lines


def _sentence(view: View, plan: PlanView) -> str:
    cards = (
        f"{plan.gpus_per_replica} × {plan.product}" if plan.product else _count(plan.gpus_per_replica, "GPU")
    )
    if view.verdict == "suspended":
        return f"{plan.model} on {cards} for each replica; no pod runs while it is suspended."
    if view.verdict in ("planned", "waiting"):
        number, state = sum(placement.replicas for placement in view.placements), "placed"
    else:
        number, state = view.ready, "ready"
    return f"{plan.model} on {cards} for each replica; {number} of {_count(view.wanted, 'replica')} {state}."


def _plan(plan: PlanView, style: Style) -> list[str]:
    lines = ["", style.heading("Decision"), *table(_decision_rows(plan))]
    lines += ["", f"{style.heading('Memory')}   {_memory_line(plan)}", *_memory_rows(plan)]
    lines += _sentences("Why", plan.reasons, style, "•")
    lines += _sentences("Warnings", plan.warnings, style, "!")
    if plan.overrides:
        lines += ["", style.heading("Set by you, planned around"), *bullet(", ".join(plan.overrides))]
    if plan.rejected:
        rows = [
            (item.layout, f"short by {item.shortfall}" if item.shortfall else "") for item in plan.rejected
        ]
        lines += ["", style.heading("Not chosen")]
        for line, item in zip(table(rows), plan.rejected, strict=True):
            lines += [
                line,
                *textwrap.wrap(item.reason, WIDTH, initial_indent="      ", subsequent_indent="      "),
            ]
    return lines


def _decision_rows(plan: PlanView) -> list[tuple[str, str]]:
    rows = [
        ("mode", plan.mode),
        ("GPUs", f"{plan.gpus_per_replica} per replica"),
        ("layout", plan.layout),
        ("dtype", plan.dtype),
        ("arithmetic", "on the CPU, as performance.device asks" if plan.device == "cpu" else "on the GPU"),
        ("time", _time(plan)),
        ("plan", f"{plan.hash} for group {plan.group}" if plan.group else plan.hash),
    ]
    return [row for row in rows if row[1]]


def _time(plan: PlanView) -> str:
    if plan.device == "cpu":
        return "not predicted for the CPU"
    if plan.seconds_per_request is None:
        return ""
    return f"{plan.seconds_per_request:.3g} s for each request, {_SOURCES.get(plan.source, plan.source)}"


def _memory_line(plan: PlanView) -> str:
    return (
        f"peak {plan.peak} of {plan.free} free on each GPU" if plan.free else f"peak {plan.peak} on each GPU"
    )


def _memory_rows(plan: PlanView) -> list[str]:
    largest = max((component.bytes for component in plan.memory), default=0)
    rows = [
        (
            component.name,
            format_bytes(component.bytes),
            bar(component.bytes / largest if largest else 0.0),
            _PLACEMENTS.get(component.placement, component.placement),
        )
        for component in sorted(plan.memory, key=lambda component: (-component.bytes, component.name))
    ]
    return table(rows, right=frozenset({1}))


def _sentences(title: str, sentences: tuple[str, ...], style: Style, mark: str) -> list[str]:
    if not sentences:
        return []
    return ["", style.heading(title), *(line for sentence in sentences for line in bullet(sentence, mark))]


def _placements(view: View, style: Style) -> list[str]:
    rows = [
        (
            item.group,
            _count(item.replicas, "replica"),
            f"{_count(item.gpus_per_replica, 'GPU')} each",
            item.plan_hash,
        )
        for item in view.placements
    ]
    return ["", style.heading("Groups"), *table(rows)]


def _conditions(view: View, style: Style) -> list[str]:
    if not view.conditions:
        return []
    rows = [(condition.type, condition.status, condition.reason) for condition in view.conditions]
    return ["", style.heading("Conditions"), *table(rows)]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_long_words=False)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
