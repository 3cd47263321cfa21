"""What the schema already offers and no code acts on yet. Such a field is refused, never ignored.

One table, so that a reader sees at a glance what is missing; an entry goes when its feature comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.placement.decision import Refusal


@dataclass(frozen=True)
class Unsupported:
    """A field that is refused unless it is absent, empty or one of `harmless`. `instead` is what works."""

    field: str
    instead: str
    harmless: tuple[object, ...] = ()


_SOURCES = "only model.source.builtIn is served by this version"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

UNSUPPORTED: tuple[Unsupported, ...] = (
    Unsupported("model.source.pvc", _SOURCES),
    Unsupported("model.source.s3", _SOURCES),
    Unsupported("model.source.image", _SOURCES),
    Unsupported("model.secretRef", "no source of this version asks who you are; leave it out"),
    Unsupported("model.variant", "leave it out; the weight files without a variant are used"),
    Unsupported("model.loras", "leave it out"),
    Unsupported("task", "leave it out or write auto; a model does what it is made for", ("auto",)),
    Unsupported(
        "performance.calibrate", "leave it out or write never; plans come from the formula", ("never",)
    ),
    Unsupported("cache", "leave it out; built-in models are not downloaded"),
    Unsupported(
        f"pod.affinity.podAffinity.{_REQUIRED}", "use preferredDuringSchedulingIgnoredDuringExecution"
    ),
    Unsupported(
        f"pod.affinity.podAntiAffinity.{_REQUIRED}", "use preferredDuringSchedulingIgnoredDuringExecution"
    ),
)


def unsupported(spec: DiffusionDeploymentSpec) -> Refusal | None:
    """The first field of the table that the spec sets."""
    raw = spec.to_dict()
    for entry in UNSUPPORTED:
        value = _at(raw, entry.field)
        if value not in (None, [], {}) and value not in entry.harmless:
            return _refusal(entry.field, entry.instead)
    if spec.model.source.hugging_face and not spec.suspend:
        instead = f"{_SOURCES}; with suspend: true the plan for this model is shown without running it"
        return _refusal("model.source.huggingFace", instead)
    return None


def _refusal(field: str, instead: str) -> Refusal:
    path = f"spec.{field}"
    return Refusal("NotSupportedYet", f"{path} is not supported yet: {instead}.", stalled=True, field=path)


def _at(raw: Mapping[str, Any], field: str) -> Any:
    value: Any = raw
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
