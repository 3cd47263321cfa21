"""Reads the CRD's structural schema: which places it has, what fits there, and what does not.

It knows the parts of a structural schema that ours uses and refuses to guess about any other. CEL rules are
left out: what breaks only those is admitted here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from diffusion_operator.api.crd import crd

Schema = dict[str, Any]
Step = str | int
KNOWN = {
    "type", "description", "properties", "required", "items", "additionalProperties", "enum", "pattern",
    "minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "maxProperties", "format",
    "default", "anyOf", "x-kubernetes-int-or-string", "x-kubernetes-validations", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "additionalPropertiesKeys",
}  # fmt: skip
MAP_KEY = "example.org/key"
TEXTS = (
    "demo", "5%", "90s", "owner/name", "nvidia.com/gpu", "https://minio.storage.svc:9000", "/data", "fp16",
)  # fmt: skip
# What an object needs beyond `required`, by CEL rules: (its fields, one of which must be there, what to add).
ONE_OF: tuple[tuple[frozenset[str], Schema], ...] = (
    (frozenset({"builtIn", "huggingFace", "pvc", "s3", "image"}), {"builtIn": {"name": "demo"}}),
    (frozenset({"pvc", "emptyDir", "image"}), {"emptyDir": {}}),
    (frozenset({"value", "secretKeyRef"}), {"value": "text"}),
    (frozenset({"key"}), {"key": "example.org/gpu"}),
)
RULED = frozenset({"mountPath", "secretKeyRef", "builtIn", "tolerationSeconds"})


@dataclass(frozen=True)
class Site:
    """A place of the schema: the steps to it from the object, and what may be there."""

    steps: tuple[Step, ...]
    schema: Schema

    @property
    def path(self) -> str:
        """As the API server spells it."""
        words = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.steps)
        return words.removeprefix(".")


def spec_schema() -> Schema:
    """The schema of `spec`."""
    whole: Schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return dict(whole["properties"]["spec"])


def sites(schema: Schema, steps: tuple[Step, ...] = ("spec",)) -> Iterator[Site]:
    """Every place, one entry of each list and map among them."""
    unknown = set(schema) - KNOWN
    if unknown:
        raise ValueError(f"{steps}: {sorted(unknown)} is not understood here")
    yield Site(steps, schema)
    for name, child in schema.get("properties", {}).items():
        yield from sites(child, (*steps, name))
    if "items" in schema:
        yield from sites(schema["items"], (*steps, 0))
    if "additionalProperties" in schema:
        key = "cpu" if schema.get("maxProperties") == 3 else MAP_KEY
        key = "transformer" if steps[-1] in ("residency", "dtype") else key
        yield from sites(schema["additionalProperties"], (*steps, key))


def example(schema: Schema) -> Any:
    """The least that fits."""
    if schema.get("x-kubernetes-int-or-string"):
        return "1Gi"
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema["type"]
    if kind == "object":
        return completed(schema, {})
    if kind == "array":
        return [example(schema["items"])] * schema.get("minItems", 0)
    if kind == "string":
        return next(text for text in TEXTS if fits(text, schema))
    return {"boolean": True, "integer": schema.get("minimum", 1), "number": schema.get("minimum", 0.0)}[kind]


def completed(schema: Schema, given: Mapping[str, Any]) -> Schema:
    """An object with these fields and what else it must have."""
    fields = schema.get("properties", {})
    made = {name: example(fields[name]) for name in schema.get("required", ())} | dict(given)
    for choices, needed in ONE_OF:
        if choices <= set(fields) and RULED & set(fields) and not choices & set(made):
            made |= needed
    return made


def fits(value: Any, schema: Schema) -> bool:
    """Whether the schema admits the value."""
    return next(problems(value, schema, ""), None) is None


def problems(value: Any, schema: Schema, path: str) -> Iterator[str]:
    """Paths at which a value breaks its schema. Unknown fields are problems, as with strict checks."""
    if schema.get("x-kubernetes-int-or-string"):
        if (
            isinstance(value, bool)
            or not isinstance(value, int | str)
            or (isinstance(value, str) and not _text_fits(value, schema))
        ):
            yield path
        return
    if not _of_type(value, schema["type"]) or ("enum" in schema and value not in schema["enum"]):
        yield path
        return
    yield from _inside(value, schema, path)


def _inside(value: Any, schema: Schema, path: str) -> Iterator[str]:
    kind = schema["type"]
    if (kind == "string" and not _text_fits(value, schema)) or (
        kind in ("integer", "number") and not _number_fits(value, schema)
    ):
        yield path
    elif kind == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", 1 << 30):
            yield path
        keys = schema.get("x-kubernetes-list-map-keys", ())
        named = [tuple(entry.get(k) for k in keys) for entry in value if keys and isinstance(entry, dict)]
        if len(set(map(repr, named))) < len(named):
            yield path
        for index, entry in enumerate(value):
            yield from problems(entry, schema["items"], f"{path}[{index}]")
    elif kind == "object":
        yield from _fields(value, schema, path)


def _fields(value: Mapping[str, Any], schema: Schema, path: str) -> Iterator[str]:
    if "additionalProperties" in schema:
        if len(value) > schema.get("maxProperties", 1 << 30):
            yield path
        for key, entry in value.items():
            yield from problems(entry, schema["additionalProperties"], f"{path}.{key}")
        return
    known = schema.get("properties", {})
    yield from (f"{path}.{name}" for name in schema.get("required", ()) if name not in value)
    for name, entry in value.items():
        if name in known:
            yield from problems(entry, known[name], f"{path}.{name}")
        else:
            yield f"{path}.{name}"


def _of_type(value: Any, kind: str) -> bool:
    if kind in ("integer", "number"):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return not isinstance(value, bool) and (
            whole if kind == "integer" else isinstance(value, int | float)
        )
    return isinstance(value, {"object": dict, "array": list, "string": str, "boolean": bool}[kind])


def _text_fits(text: str, schema: Schema) -> bool:
    pattern = schema.get("pattern")
    # Go's $ is the very end; lengths are counted in characters.
    return schema.get("minLength", 0) <= len(text) <= schema.get("maxLength", 1 << 30) and (
        pattern is None or re.search(pattern.replace("$", r"\Z"), text) is not None
    )


def _number_fits(value: float, schema: Schema) -> bool:
    low, high = schema.get("minimum", -(2**63)), schema.get("maximum", 2**63 - 1)
    return bool(low <= value <= high)
