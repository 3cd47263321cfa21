"""`kubectl get`, `describe` and `explain` tell somebody who never saw this project what was decided and
why.
"""

from __future__ import annotations

import pytest

from cluster.conftest import SERVED
from cluster.room import Room

COLUMNS = ["NAME", "READY", "MODE", "GPUS", "LAYOUT", "PEAK", "REPLICAS", "REASON", "AGE"]
pytestmark = pytest.mark.usefixtures("quiet")


def test_get_shows_what_was_decided(served: Room) -> None:
    header, row = served.kubectl("get", "dd", SERVED).splitlines()
    assert header.split() == COLUMNS
    plan = served.get(SERVED)["status"]["plan"]
    for shown in (SERVED, "True", "auto", plan["layoutSummary"], plan["peakPerGPU"], "Ready"):
        assert shown in row


def test_describe_gives_reasons_and_events(served: Room) -> None:
    described = served.kubectl("describe", "dd", SERVED)
    plan = served.get(SERVED)["status"]["plan"]
    words = " ".join(described.split())
    for sentence in (*plan["reasons"], *plan["warnings"]):
        assert " ".join(sentence.split()) in words
    assert "NVIDIA-H100-80GB-HBM3" in described
    events = described[described.index("Events:") :]
    assert "Planned" in events
    assert "Ready" in events


def test_explain_reads_like_documentation(served: Room) -> None:
    explained = served.kubectl("explain", "dd.spec.performance")
    assert "<no description>" not in explained
    assert "What matters more" in explained
    for field in ("mode", "bias", "objective", "memoryReserve", "device"):
        assert f"\n  {field}\t" in explained
    everything = served.kubectl("explain", "dd", "--recursive")
    assert "parallelism" in everything


def test_explain_describes_every_field_of_the_spec(served: Room) -> None:
    for path in (
        "spec",
        "spec.workload.shapes",
        "spec.hardware",
        "spec.pod",
        "spec.model.source",
        "status.plan",
    ):
        assert "<no description>" not in served.kubectl("explain", f"dd.{path}"), path
