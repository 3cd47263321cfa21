"""Events tell changes once: decision, refusal, failure, recovery."""

from __future__ import annotations

from typing import Any

from diffusion_operator.reconcile.events import Change, EventRecorder, changes
from unit.reconcile.fakecluster import FakeCluster
from unit.reconcile.plans import NOW
from unit.reconcile.worlds import demo, world

DD = {"metadata": {"name": "demo", "namespace": "team", "uid": "u1"}}
PLAN = {
    "hash": "aaaa",
    "model": "demo",
    "gpusPerReplica": 1,
    "product": "NVIDIA-H200",
    "layoutSummary": "1 GPU",
    "peakPerGPU": "2GiB",
    "freePerGPU": "100GiB",
    "reasons": ["it fits"],
}


def status(generation: int = 1, plan: dict[str, Any] | None = None, **conditions: str) -> dict[str, Any]:
    """Conditions as Ready="!Progressing": false with that reason."""
    found = [
        {
            "type": kind,
            "status": "False" if reason.startswith("!") else "True",
            "reason": reason.lstrip("!"),
            "message": f"because of {reason.lstrip('!')}",
            "observedGeneration": generation,
        }
        for kind, reason in conditions.items()
    ]
    return {"conditions": found} | ({"plan": plan} if plan else {})


def told(before: dict[str, Any], after: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change.type, change.reason) for change in changes(before, after)]


def test_a_decision_is_told_with_its_numbers_and_reasons() -> None:
    (change,) = changes({}, status(plan=PLAN, Ready="!Progressing", Reconciling="Progressing"))
    assert (
        change.note == "demo on 1 x NVIDIA-H200 per replica: 1 GPU, peak 2GiB of 100GiB free per GPU. it fits"
    )


def test_what_stays_is_not_told_again() -> None:
    ready = status(plan=PLAN, Ready="Ready")
    assert told(ready, ready) == []
    waits = status(Ready="!InsufficientGPUs", Reconciling="InsufficientGPUs")
    assert told(waits, waits) == []


def test_a_refusal_is_told_once_although_two_conditions_carry_it() -> None:
    refused = status(Ready="!InvalidSpec", Stalled="InvalidSpec")
    assert told(status(Ready="Ready"), refused) == [("Warning", "InvalidSpec")]


def test_a_new_spec_that_is_refused_for_the_same_reason_is_told() -> None:
    first, second = (status(n, Ready="!InvalidSpec", Stalled="InvalidSpec") for n in (1, 2))
    assert told(first, second) == [("Warning", "InvalidSpec")]


def test_numbers_that_move_while_it_waits_are_not_told() -> None:
    before, after = (status(Ready="!InsufficientGPUs", Reconciling="InsufficientGPUs") for _ in range(2))
    after["conditions"][0]["message"] = "3 are free"
    assert told(before, after) == []


def test_recovery_and_degradation_are_told() -> None:
    broken = status(Ready="!CrashLoop", Reconciling="CrashLoop")
    assert told(broken, status(Ready="Ready")) == [("Normal", "Ready")]
    assert told(status(Ready="Ready"), status(Ready="Ready", Degraded="FallbackActive")) == [
        ("Warning", "FallbackActive")
    ]


async def test_the_same_event_again_becomes_a_series() -> None:
    cluster = FakeCluster()
    recorder = EventRecorder(cluster, "operator-1", lambda: NOW)
    change = Change("Warning", "CrashLoop", "Reconcile", "pod ended")
    for _ in range(3):
        await recorder.post(DD, change)
    (event,) = cluster.events.values()
    assert event["series"] == {"count": 3, "lastObservedTime": "2026-11-24T12:00:00.000000Z"}
    assert event["reportingController"] == "diffusion-operator.io/operator"
    assert event["regarding"]["uid"] == "u1"


async def test_another_note_is_another_event() -> None:
    cluster = FakeCluster()
    recorder = EventRecorder(cluster, "operator-1", lambda: NOW)
    for note in ("one", "two"):
        await recorder.post(DD, Change("Normal", "Planned", "Plan", note))
    assert len(cluster.events) == 2


async def test_a_note_is_cut_by_bytes_as_the_api_server_counts() -> None:
    made = world(2)
    made.cluster.submit(demo(hardware={"nodeSelector": {"模" * 1000: "x"}}))
    await made.settle()
    (event,) = made.cluster.events.values()
    assert 1000 < len(event["note"].encode()) <= 1024
    assert "模模" in event["note"]
