"""Does a live object still say what our manifest says?

The API server adds defaults and other managers add fields of their own, so equality is the wrong question:
every field of the manifest must be in the live object with the same meaning. Other fields are not ours.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal, InvalidOperation
from typing import Any

from diffusion_operator.kube.resources import JsonObject

# Lists that server-side apply merges by key: foreign entries in them stay, so they are not a difference.
# Source: the x-kubernetes-list-map-keys of the API's OpenAPI document.
MERGE_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "volumeMounts": ("mountPath",),
    "imagePullSecrets": ("name",),
    "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}
PORT_KEYS = (("containerPort", "protocol"), ("port", "protocol"))
# Maps that server-side apply replaces whole, so a foreign key in them is a difference we can undo.
ATOMIC_MAPS = frozenset({"selector", "matchLabels", "nodeSelector"})
QUANTITY_FIELDS = frozenset({"requests", "limits"})

_SUFFIXES = {
    "": Decimal(1), "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("0.001"),
    "k": Decimal(10) ** 3, "M": Decimal(10) ** 6, "G": Decimal(10) ** 9, "T": Decimal(10) ** 12,
    "P": Decimal(10) ** 15, "Ki": Decimal(2) ** 10, "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40, "Pi": Decimal(2) ** 50,
}  # fmt: skip


def manifest_hash(manifest: JsonObject) -> str:
    """Sixteen hex digits over a rendered manifest."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(wanted: Any, live: Any, path: str = "", *, quantity: bool = False) -> list[str]:
    """Paths at which `live` does not say what `wanted` says; empty when nothing is to be written.

    The API server drops empty values, so an empty wanted value equals an absent live one.
    """
    if live is None and not wanted:
        return []
    if isinstance(wanted, dict):
        return _map_differences(wanted, live, path, quantity=quantity)
    if isinstance(wanted, list):
        return _list_differences(wanted, live, path, quantity=quantity)
    if wanted == live and isinstance(wanted, bool) == isinstance(live, bool):
        return []
    return [] if quantity and _same_quantity(wanted, live) else [path]


def _map_differences(wanted: JsonObject, live: Any, path: str, *, quantity: bool) -> list[str]:
    field = path.rsplit(".", 1)[-1]
    if not isinstance(live, dict) or (field in ATOMIC_MAPS and wanted.keys() != live.keys()):
        return [path]
    quantity = quantity or field in QUANTITY_FIELDS
    return [
        found
        for key, value in wanted.items()
        for found in differences(value, live.get(key), f"{path}.{key}" if path else key, quantity=quantity)
    ]


def _list_differences(wanted: list[Any], live: Any, path: str, *, quantity: bool) -> list[str]:
    if not isinstance(live, list):
        return [path]
    keys = _merge_keys(path, wanted)
    if keys is None:
        if len(wanted) != len(live):
            return [path]
        pairs = list(zip(wanted, live, strict=True))
    else:
        by_key = {_identity(entry, keys): entry for entry in live if isinstance(entry, dict)}
        pairs = [(entry, by_key.get(_identity(entry, keys))) for entry in wanted]
    return [
        found
        for index, (one, other) in enumerate(pairs)
        for found in differences(one, other, f"{path}[{index}]", quantity=quantity)
    ]


def _merge_keys(path: str, wanted: list[Any]) -> tuple[str, ...] | None:
    field = path.rsplit(".", 1)[-1]
    if not wanted or not all(isinstance(entry, dict) for entry in wanted):
        return None
    # A NetworkPolicy's ports are replaced whole: one that was added by hand opens a door.
    if field == "ports" and not path.startswith("spec.ingress["):
        return next((keys for keys in PORT_KEYS if all(keys[0] in entry for entry in wanted)), None)
    return MERGE_KEYS.get(field)


def _identity(entry: JsonObject, keys: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(entry.get(key, "TCP" if key == "protocol" else None) for key in keys)


def _same_quantity(one: Any, other: Any) -> bool:
    try:
        return _quantity(str(one)) == _quantity(str(other))
    except (InvalidOperation, KeyError):
        return False


def _quantity(text: str) -> Decimal:
    digits = text.rstrip("numkMGTPKi")
    return Decimal(digits) * _SUFFIXES[text[len(digits) :]]
