"""Checks manifests against Kubernetes' own OpenAPI types, as the official client ships them.

Every field must exist under its spelling, every map be a map, every list a list. Values are not judged.
"""

from __future__ import annotations

import re
from typing import Any

from kubernetes.client import models


def unknown_fields(manifest: Any, kind: str, path: str = "") -> list[str]:
    """Paths of `manifest` that the type `kind` (`V1Job`) does not have."""
    listed = re.fullmatch(r"[Ll]ist\[(.+)\]", kind)
    if listed:
        if not isinstance(manifest, list):
            return [f"{path} is no list"]
        return [
            bad for i, one in enumerate(manifest) for bad in unknown_fields(one, listed[1], f"{path}[{i}]")
        ]
    model = getattr(models, kind, None)
    if model is None:
        return []
    if not isinstance(manifest, dict):
        return [f"{path} is no map"]
    types = {wire: model.openapi_types[name] for name, wire in model.attribute_map.items()}
    return [
        bad
        for key, value in manifest.items()
        for bad in (unknown_fields(value, types[key], f"{path}.{key}") if key in types else [f"{path}.{key}"])
    ]
