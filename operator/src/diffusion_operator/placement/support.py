"""What the schema already offers and no code acts on yet. Such a field is refused, never ignored.

One table, so that a reader sees at a glance what is missing; an entry goes when its feature comes. Beside it
the fields that mean nothing for the chosen source: they are refused too, by what they would need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_operator.api.spec import DiffusionDeploymentSpec
from diffusion_operator.placement.decision import Refusal
from diffusion_operator.placement.facts import is_fetched


@dataclass(frozen=True)
class Unsupported:
    """A field that is refused unless it is absent, empty or one of `harmless`. `instead` is what works."""

    field: str
    instead: str
    harmless: tuple[object, ...] = ()


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

UNSUPPORTED: tuple[Unsupported, ...] = (
    Unsupported("model.loras", "leave it out"),
    Unsupported("task", "leave it out or write auto; a model does what it is made for", ("auto",)),
    Unsupported(
        "performance.calibrate", "leave it out or write never; plans come from the formula", ("never",)
    ),
    Unsupported(
        f"pod.affinity.podAffinity.{_REQUIRED}", "use preferredDuringSchedulingIgnoredDuringExecution"
    ),
    Unsupported(
        f"pod.affinity.podAntiAffinity.{_REQUIRED}", "use preferredDuringSchedulingIgnoredDuringExecution"
    ),
)


def unsupported(spec: DiffusionDeploymentSpec) -> Refusal | None:
    """The first field that the spec sets in vain."""
    raw = spec.to_dict()
    for entry in UNSUPPORTED:
        value = _at(raw, entry.field)
        if value not in (None, [], {}) and value not in entry.harmless:
            path = f"spec.{entry.field}"
            message = f"{path} is not supported yet: {entry.instead}."
            return Refusal("NotSupportedYet", message, stalled=True, field=path)
    return _of_no_use(spec)


def _of_no_use(spec: DiffusionDeploymentSpec) -> Refusal | None:
    """Fields that the source does not ask for, and a cache without a volume."""
    model, cache = spec.model, spec.cache
    kind = model.source.kind
    if model.variant and not is_fetched(spec):
        words = f"is for huggingFace and s3; the folder of {kind} is taken as it is"
        return _invalid("spec.model.variant", words)
    if model.secret_ref and not model.source.hugging_face:
        own = "; the keys of a store go into model.source.s3.secretRef" if model.source.s3 else ""
        return _invalid("spec.model.secretRef", f"is for huggingFace; {kind} asks for no token{own}")
    if cache is None or not (cache.pvc or cache.prefetch):
        return None
    if not is_fetched(spec):
        return _invalid("spec.cache", f"is for huggingFace and s3; {kind} is not downloaded")
    if cache.pvc is None or cache.pvc.claim_name is None:
        message = "spec.cache.pvc.claimName is needed: name a PersistentVolumeClaim of this namespace."
        return Refusal("NotSupportedYet", message, stalled=True, field="spec.cache.pvc.claimName")
    return None


def _invalid(field: str, words: str) -> Refusal:
    return Refusal("InvalidSpec", f"{field} {words}; leave it out.", stalled=True, field=field)


def _at(raw: Mapping[str, Any], field: str) -> Any:
    value: Any = raw
    for part in field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
