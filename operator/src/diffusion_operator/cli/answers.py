"""Answers for programs: records as JSON with the camelCase keys that all documents of this project have."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

from pydantic.alias_generators import to_camel


def keys_of(record: Any, **more: Any) -> dict[str, Any]:
    """A flat dataclass under its wire names, without what is None."""
    values = {field.name: getattr(record, field.name) for field in fields(record)} | more
    return {to_camel(name): value for name, value in values.items() if value is not None}


def json_text(document: dict[str, Any]) -> str:
    """As the commands print it."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
