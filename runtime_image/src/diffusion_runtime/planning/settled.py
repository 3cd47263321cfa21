"""Keeps settled questions for a while: many deployments ask the same, and an operator asks again.

What is kept never depends on free memory or node counts; those come in with each slot. Whatever asks
differently in any way is another question.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence

from diffusion_runtime.planning.calibrations import UNKNOWN_VERSIONS, Calibration, Versions
from diffusion_runtime.planning.devices import Device
from diffusion_runtime.planning.documents import Workload
from diffusion_runtime.planning.facts import ModelFacts
from diffusion_runtime.planning.intent import Intent
from diffusion_runtime.planning.problem import Problem
from diffusion_runtime.planning.validate import settle

MOST_KEPT = 64

_kept: OrderedDict[Hashable, Problem] = OrderedDict()


def settled(
    facts: ModelFacts,
    workload: Workload,
    intent: Intent,
    device: Device,
    calibrations: Sequence[Calibration] = (),
    versions: Versions = UNKNOWN_VERSIONS,
) -> Problem:
    """As `settle`, with what was worked out for the same question before. Raises what `settle` raises."""
    if calibrations:
        return settle(facts, workload, intent, device, calibrations, versions)
    # The kept problem holds the facts, so their id cannot be given to other facts while the entry lives.
    key = (id(facts), workload, _intent_key(intent), device)
    problem = _kept.pop(key, None)
    if problem is None:
        problem = settle(facts, workload, intent, device)
        if len(_kept) >= MOST_KEPT:
            _kept.popitem(last=False)
    _kept[key] = problem
    return problem


def forget() -> None:
    """Drop everything kept, as a new process would start; for measuring."""
    _kept.clear()


def _intent_key(intent: Intent) -> Hashable:
    values = (getattr(intent, name) for name in Intent.model_fields)
    return tuple(frozenset(value.items()) if isinstance(value, dict) else value for value in values)
