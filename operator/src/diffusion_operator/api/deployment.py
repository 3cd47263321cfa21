"""The DiffusionDeployment object as the operator sees it: identity plus a checked spec.

The status is not read here: it is written from scratch at every reconcile, and an old status must never be
able to make an object unreadable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from diffusion_operator.api.crossrules import check_cross_rules
from diffusion_operator.api.errors import InvalidSpec
from diffusion_operator.api.names import GROUP_VERSION, KIND, MAX_NAME_LENGTH
from diffusion_operator.api.spec import DiffusionDeploymentSpec

NAME_PATTERN = r"^[a-z]([-a-z0-9]*[a-z0-9])?$"
_UNION_TAGS = ("int", "str")


class DiffusionDeployment(BaseModel):
    """Identity and spec. `key` is "namespace/name", the owner key of the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    namespace: str
    uid: str
    generation: int
    spec: DiffusionDeploymentSpec

    @property
    def key(self) -> str:
        """The object's key in queues and in the ledger."""
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Self:
        """Check a raw object from the API. Raises InvalidSpec with field path, value and what would work."""
        metadata = raw.get("metadata") or {}
        name = str(metadata.get("name", ""))
        check_name(name)
        spec = parse_spec(raw.get("spec"))
        return cls(
            name=name,
            namespace=str(metadata.get("namespace") or "default"),
            uid=str(metadata.get("uid", "")),
            generation=int(metadata.get("generation") or 0),
            spec=spec,
        )

    def owner_reference(self) -> dict[str, Any]:
        """Controller reference for children; deletion is the garbage collector's work, so nothing blocks on
        it.
        """
        return {
            "apiVersion": GROUP_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": False,
        }


def check_name(name: str) -> None:
    """Names of children are made from it, one of them a Service.

    at most 40 characters, starting with a letter.
    """
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidSpec(
            "metadata.name",
            f"{name!r} has {len(name)} characters; at most {MAX_NAME_LENGTH} leave room for child names",
        )
    if not re.fullmatch(NAME_PATTERN, name):
        raise InvalidSpec(
            "metadata.name",
            f"{name!r} must start with a letter and hold only a-z, 0-9 and -, as a Service's name must",
        )


def parse_spec(raw: Any) -> DiffusionDeploymentSpec:
    """Check a raw spec. Raises InvalidSpec."""
    if not isinstance(raw, Mapping):
        raise InvalidSpec("spec", "is missing; at least spec.model.source is needed")
    try:
        # Through JSON, because only there strict mode takes a list for a tuple, and nothing else.
        spec = DiffusionDeploymentSpec.model_validate_json(json.dumps(raw), strict=True)
    except ValidationError as error:
        raise _invalid(error) from error
    except (TypeError, ValueError) as error:
        raise InvalidSpec("spec", f"is not JSON: {error}") from error
    check_cross_rules(spec)
    return spec


def _invalid(error: ValidationError) -> InvalidSpec:
    """The first error that pydantic found, as one sentence."""
    first = error.errors(include_url=False, include_context=False)[0]
    location = list(first["loc"])
    if location and location[-1] in _UNION_TAGS:
        location.pop()
    field = "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    kind, value = first["type"], first["input"]
    if kind == "missing":
        return InvalidSpec(field, "is required and missing")
    if kind == "extra_forbidden":
        parent = field.rsplit(".", 1)[0]
        return InvalidSpec(
            field, f"is not a field of this version; `kubectl explain dd.{parent}` lists those that are"
        )
    if field == "spec.workload.guidance" and isinstance(value, bool):
        return InvalidSpec(
            field, f'{value!r} is a boolean, because YAML reads a bare on or off as one; write "on" or "off"'
        )
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    hint = first["msg"][0].lower() + first["msg"][1:]
    return InvalidSpec(field, f"{shown} does not work: {hint.replace('input should', 'it should')}")
