"""What a pod requests, counted as the scheduler counts it: whole GPUs and bytes of memory.

Names the object, the field and the value of what cannot be read; never guesses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from diffusion_operator.api.quantities import BadQuantity, parse_count, parse_whole

Raw = Mapping[str, Any]


class BadObject(ValueError):
    """An API object that cannot be read; the message names it, the field and the value."""


def pod_requests(what: str, spec: Raw) -> tuple[dict[str, int], int]:
    """Effective (extended resources, memory bytes) of a pod spec.

    Per resource the larger of two: what all containers and sidecars need together, and what any init
    container needs beside the sidecars started before it; plus the overhead. Source: KEP-753, "resource
    calculation".
    """
    running: dict[str, int] = {}
    for index, container in enumerate(spec.get("containers") or ()):
        _add(running, _container_requests(what, f"spec.containers[{index}]", container))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for index, container in enumerate(spec.get("initContainers") or ()):
        needs = _container_requests(what, f"spec.initContainers[{index}]", container)
        _add(needs, sidecars)
        if container.get("restartPolicy") == "Always":
            sidecars = dict(needs)
        for resource, amount in needs.items():
            peak[resource] = max(peak.get(resource, 0), amount)
    _add(running, sidecars)
    total = {key: max(running.get(key, 0), peak.get(key, 0)) for key in running.keys() | peak.keys()}
    extended, memory = amounts_of(what, "spec.overhead", part(spec, "overhead"))
    _add(total, extended | {"memory": memory})
    memory_total = total.pop("memory", 0)
    return {key: amount for key, amount in sorted(total.items()) if amount}, memory_total


def _container_requests(what: str, field: str, container: Raw) -> dict[str, int]:
    resources = part(container, "resources")
    # The API server copies limits to missing requests; templates that were never admitted have limits alone.
    amounts = {**part(resources, "limits"), **part(resources, "requests")}
    extended, memory = amounts_of(what, f"{field}.resources", amounts)
    return extended | {"memory": memory}


def amounts_of(what: str, field: str, amounts: Raw) -> tuple[dict[str, int], int]:
    """(extended resources with a slash in their name, memory bytes) of a resource list."""
    extended = {
        name: _read(what, f"{field}.{name}", parse_count, value)
        for name, value in amounts.items()
        if "/" in name
    }
    return extended, _read(what, f"{field}.memory", parse_whole, amounts.get("memory", 0))


def _read(what: str, field: str, parse: Callable[[object], int], value: object) -> int:
    try:
        return parse(value)
    except BadQuantity as error:
        raise BadObject(f"{what}: {field}: {error}") from error


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for key, amount in more.items():
        total[key] = total.get(key, 0) + amount


def part(raw: Raw, key: str) -> Raw:
    """A sub-object, empty when it is absent or null."""
    value = raw.get(key)
    return value if isinstance(value, Mapping) else {}
