"""Base of all models of the custom resource, and the string types they share.

Absent means planned, set means binding: optional fields are None and never get a schema default.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ApiModel(BaseModel):
    """Frozen, camelCase on the wire, unknown fields refused (the API server would prune them silently)."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True, allow_inf_nan=False
    )

    def to_dict(self) -> dict[str, Any]:
        """JSON types under wire names; what is absent stays absent."""
        return self.model_dump(by_alias=True, exclude_none=True, mode="json")


def rules(*pairs: tuple[str, str]) -> dict[str, Any]:
    """CEL rules for `json_schema_extra`, as (rule, message) pairs."""
    return {"x-kubernetes-validations": [{"rule": rule, "message": message} for rule, message in pairs]}


QUANTITY_PATTERN = r"^([0-9]+|[0-9]*\.[0-9]+)([KMGTPE]i|[mkMGTPE])?$"
DURATION_PATTERN = r"^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$"
INT_OR_STRING = {"x-kubernetes-int-or-string": True}
LIST_BY_NAME: dict[str, Any] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}

DnsLabel = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
DnsName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")]
LabelKey = Annotated[str, Field(min_length=1, max_length=317)]
LabelValue = Annotated[str, Field(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]
Text = Annotated[str, Field(max_length=1024)]
Quantity = Annotated[
    int | str,
    Field(json_schema_extra={**INT_OR_STRING, "pattern": QUANTITY_PATTERN}),
]
Duration = Annotated[str, Field(min_length=2, max_length=32, pattern=DURATION_PATTERN)]
