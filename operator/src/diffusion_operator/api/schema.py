"""Pydantic models -> the structural schema that Kubernetes accepts.

Structural means: no `$ref`, no null alternatives, one type per node, `additionalProperties` only for maps.
What pydantic writes and Kubernetes refuses is translated here; anything that has no translation raises, so
that a new model field can never produce a schema that silently checks less.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_COPIED = (
    "description", "format", "pattern", "minLength", "maxLength", "minItems", "maxItems", "minProperties",
    "maxProperties", "minimum", "maximum", "enum", "required", "uniqueItems",
)  # fmt: skip
_IGNORED = {
    "title",
    "default",
    "anyOf",
    "$ref",
    "$defs",
    "type",
    "properties",
    "additionalProperties",
    "items",
}
MAX_COUNT = 2**53


def structural_schema(model: type[BaseModel]) -> Schema:
    """Schema of one model with everything inlined. Raises ValueError for what has no structural form."""
    source = model.model_json_schema(by_alias=True, mode="validation")
    return _translate(source, source.get("$defs", {}), model.__name__)


def _translate(source: Mapping[str, Any], definitions: Mapping[str, Schema], path: str) -> Schema:
    source = _resolve(source, definitions, path)
    extras = {key: value for key, value in source.items() if key.startswith("x-kubernetes-")}
    result: Schema = {key: source[key] for key in _COPIED if key in source}
    unknown = set(source) - set(_COPIED) - _IGNORED - set(extras) - {"const"}
    if unknown:
        raise ValueError(f"{path}: {', '.join(sorted(unknown))} has no structural form")
    if extras.get("x-kubernetes-int-or-string"):
        result["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    else:
        result["type"] = source["type"]
        result |= _children(source, definitions, path)
    if "const" in source:
        result["enum"] = [source["const"]]
    return result | extras


def _children(source: Mapping[str, Any], definitions: Mapping[str, Schema], path: str) -> Schema:
    """Properties, map values or items, by type."""
    if source["type"] == "array":
        return {"items": _translate(source["items"], definitions, f"{path}[]")}
    if source["type"] != "object":
        return {}
    if "properties" in source:
        return {
            "properties": {
                name: _translate(child, definitions, f"{path}.{name}")
                for name, child in source["properties"].items()
            }
        }
    # An object without properties is a map; what is asked of its keys has no structural form.
    return {"additionalProperties": _translate(source["additionalProperties"], definitions, f"{path}.*")}


def _resolve(source: Mapping[str, Any], definitions: Mapping[str, Schema], path: str) -> Schema:
    """Follow `$ref` and drop the null alternative; what stands beside them wins over what they point to."""
    merged = {key: value for key, value in source.items() if key not in ("$ref", "anyOf", "propertyNames")}
    if "$ref" in source:
        target = definitions[str(source["$ref"]).rsplit("/", 1)[1]]
        return _resolve({**target, **merged}, definitions, path)
    if "anyOf" not in source:
        return merged
    choices = [choice for choice in source["anyOf"] if choice.get("type") != "null"]
    if merged.get("x-kubernetes-int-or-string"):
        return merged
    if len(choices) != 1:
        raise ValueError(f"{path}: a choice of {len(choices)} types has no structural form")
    return _resolve({**choices[0], **merged}, definitions, path)
