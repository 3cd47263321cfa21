"""Malformed specs are refused by the API server itself, in a sentence that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.room import Room, manifest
from localcluster.shell import CommandError

TWO_SOURCES = {"model": {"source": {"builtIn": {"name": "demo"}, "pvc": {"claimName": "x"}}}}
CASES: list[tuple[str, dict[str, Any], str]] = [
    ("no-source", {"model": {"source": {}}}, "exactly one of"),
    ("two-sources", TWO_SOURCES, "exactly one of"),
    ("mode-and-bias", {"performance": {"mode": "auto", "bias": 0.5}}, "not both"),
    ("unknown-mode", {"performance": {"mode": "fastest"}}, "spec.performance.mode"),
    ("bias-out-of-range", {"performance": {"bias": 2}}, "spec.performance.bias"),
    ("gpus-not-filled", {"parallelism": {"gpusPerReplica": 3, "cfg": 2}}, "multiple of"),
    ("negative-replicas", {"replicas": -1}, "spec.replicas"),
    ("no-shape", {"workload": {"shapes": []}}, "spec.workload.shapes"),
    (
        "width-as-text",
        {"workload": {"shapes": [{"width": "wide", "height": 64}]}},
        "spec.workload.shapes[0].width",
    ),
    ("unknown-field", {"perfomance": {}}, "perfomance"),
]
pytestmark = pytest.mark.usefixtures("quiet")


@pytest.mark.parametrize(("name", "spec", "named"), CASES, ids=[case[0] for case in CASES])
def test_refused_by_name(served: Room, name: str, spec: dict[str, Any], named: str) -> None:
    with pytest.raises(CommandError) as refused:
        served.apply(manifest(name, **spec))
    assert named in str(refused.value)


def test_long_names_are_refused(served: Room) -> None:
    with pytest.raises(CommandError, match="40"):
        served.apply(manifest("a" * 41))
